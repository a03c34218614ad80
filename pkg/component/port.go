package component

// A Port maps a port of the host to one of the container, and says who gets there and how.
//
// Several ports, of several components, may have the same External when each takes connections
// or requests that no other one takes: see Match.
type Port struct {
	External  int    `json:"external" doc:"Port on the host."`
	Container int    `json:"container" doc:"Port in the container."`
	Kind      string `json:"kind,omitempty" doc:"tcp or http." default:"tcp" enum:"tcp,http"`

	Match             Match         `json:"match,omitzero" doc:"Which connections or requests to the external port are for this component. Default: all that no other one takes."`
	TLS               TLS           `json:"tls,omitzero" doc:"Certificates to speak TLS with (http)."`
	Upstream          string        `json:"upstream,omitempty" doc:"What the container speaks: HTTP/1.1, or HTTP/2 without TLS (http)." default:"http1" enum:"http1,h2c"`
	MaxConns          int           `json:"maxConns,omitempty" doc:"Connections at once; the next one is refused. Default: as many as the daemon can hold."`
	MaxConnsPerClient int           `json:"maxConnsPerClient,omitempty" doc:"Connections at once from one client address; the next one is refused. Default: no limit."`
	IdleTimeout       Duration      `json:"idleTimeout,omitempty" doc:"A connection that was silent both ways for this long is closed (tcp). Default: never."`
	LingerTimeout     Duration      `json:"lingerTimeout,omitempty" doc:"The same once one side has ended its half (tcp). Default: idleTimeout."`
	ProxyProtocol     ProxyProtocol `json:"proxyProtocol,omitzero" doc:"PROXY headers, which tell the address of the client."`
	Trusted           []string      `json:"trusted,omitempty" doc:"Addresses of proxies whose Forwarded and X-Forwarded headers are believed, as CIDR (http)."`
	Pages             string        `json:"pages,omitempty" doc:"Directory on the host with 502.html, 503.html, 504.html and maintenance.html (http)."`
}

// Kinds of ports and links.
const (
	KindTCP  = "tcp"
	KindHTTP = "http"
)

// What the container behind a port of kind http speaks.
const (
	UpstreamHTTP1 = "http1"
	UpstreamH2C   = "h2c"
)

// Versions of the PROXY header that the container is sent.
const (
	ProxyV1 = "v1"
	ProxyV2 = "v2"
)

// A Match tells the connections or requests of one port from those of the others that share its
// external port. The zero Match takes what no other one takes.
type Match struct {
	Hosts []string `json:"hosts,omitempty" doc:"Host names of the request, such as a.example or *.example.org (http)."`
	Path  string   `json:"path,omitempty" doc:"Start of the path, up to a slash or the end: /api takes /api and /api/x, not /apis (http)."`
	SNI   []string `json:"sni,omitempty" doc:"Server names that the client's TLS asks for, such as db.example or *.example.org; TLS goes through untouched (tcp)."`
}

// IsZero reports whether the match takes what no other one takes.
func (m Match) IsZero() bool { return len(m.Hosts)+len(m.SNI) == 0 && m.Path == "" }

// TLS is how the proxy speaks TLS to clients.
type TLS struct {
	Certs []KeyPair `json:"certs" doc:"Certificates, chosen by the name that the client asks for; the first one is for all others."`
}

// IsZero reports whether there is no TLS.
func (t TLS) IsZero() bool { return len(t.Certs) == 0 }

// A KeyPair names the files of a certificate on the host. They are read again when they change.
type KeyPair struct {
	Cert string `json:"cert" doc:"File on the host with the certificate and those that sign it, in PEM."`
	Key  string `json:"key" doc:"File on the host with the key, in PEM."`
}

// ProxyProtocol says who sends PROXY headers and who is sent one.
type ProxyProtocol struct {
	From []string `json:"from,omitempty" doc:"Addresses of clients that send a PROXY header, v1 or v2, as CIDR. From others none is read."`
	To   string   `json:"to,omitempty" doc:"Version of the PROXY header sent to the container (tcp). Default: none." enum:"v1,v2"`
}

// contract is what the container must agree with: where it listens and what is spoken to it. The
// external port is in it too, because opening one can fail, which is found out host by host.
// The rest only steers the proxy.
func (p Port) contract() Port {
	return Port{
		External: p.External, Container: p.Container, Kind: p.Kind, Upstream: p.Upstream,
		ProxyProtocol: ProxyProtocol{To: p.ProxyProtocol.To},
	}
}
