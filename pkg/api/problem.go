package api

import "fmt"

// A Problem is an answer that is an error, as RFC 9457 has it. Code is stable, the other words are for people.
type Problem struct { //nolint:errname // RFC 9457 calls it so
	Type      string    `json:"type,omitempty" doc:"always about:blank: the code tells problems apart"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail,omitempty"`
	Code      Code      `json:"code"`
	RequestID string    `json:"request_id,omitempty" doc:"the X-Request-ID of the answer, which the logs have too"`
	Errors    []Mistake `json:"errors,omitempty" doc:"single mistakes in what was sent"`
}

// A Mistake is one of several in what was sent.
type Mistake struct {
	Location string `json:"location,omitempty"`
	Message  string `json:"message"`
}

// A Code tells programs what kind of problem it is.
type Code string

// The codes.
const (
	CodeInvalid              Code = "invalid"               // what was sent makes no sense
	CodeUnauthorized         Code = "unauthorized"          // no credential, or one that does not count
	CodeForbidden            Code = "forbidden"             // the credential does not suffice
	CodeNotFound             Code = "not_found"             // no such route, project, component or release
	CodeMethod               Code = "method_not_allowed"    // the route has other methods
	CodeNotAcceptable        Code = "not_acceptable"        // the answer is in no form that the client takes
	CodeConflict             Code = "conflict"              // not now: it does not fit how things stand
	CodeGone                 Code = "gone"                  // events from then on are not kept any more
	CodePreconditionFailed   Code = "precondition_failed"   // something else came in between
	CodePreconditionRequired Code = "precondition_required" // say what is replaced, with If-Match
	CodeTooLarge             Code = "too_large"             // of the body
	CodeMediaType            Code = "unsupported_media_type"
	CodeTooMany              Code = "too_many_requests"
	CodeTimeout              Code = "timeout"
	CodeInternal             Code = "internal"
	CodeUnavailable          Code = "unavailable" // etcd or Docker Engine does not answer, or the server ends
)

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return fmt.Sprintf("%s (%s)", p.Title, p.Code)
	}
	return p.Detail
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the one of problems.
func (p *Problem) ContentType(string) string { return "application/problem+json" }
