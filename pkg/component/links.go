package component

import (
	"fmt"
	"strconv"
	"strings"
)

// LinkVariables are the environment variables that tell a component where a link is: alias and kind
// in upper case, port the one in the exporter's container, host and hostPort where it is reached
// from inside the importer's container. They are those of the original, so programs find them.
func LinkVariables(alias string, link LinkDefinition, host string, hostPort int) []EnvVar {
	kind := strings.ToLower(or(link.Kind, KindTCP))
	name := envName(alias) + "_CLINK"
	long := fmt.Sprintf("%s_%d_%s", name, link.Port, strings.ToUpper(kind))
	port := strconv.Itoa(hostPort)
	url := fmt.Sprintf("%s://%s:%s", kind, host, port)
	return []EnvVar{
		{name, url},
		{long, url},
		{long + "_PROTO", kind},
		{long + "_ADDR", host},
		{long + "_PORT", port},
	}
}

// envName is alias in upper case, with an underscore for each byte a shell would not take.
func envName(alias string) string {
	b := []byte(strings.ToUpper(alias))
	for i, c := range b {
		switch {
		case c >= 'A' && c <= 'Z', c == '_', c >= '0' && c <= '9' && i > 0:
		default:
			b[i] = '_'
		}
	}
	return string(b)
}
