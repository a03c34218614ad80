package accesslog

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The longest value of each kind, in bytes of what came.
const (
	maxName      = 256 // listeners, hosts, addresses
	maxMethod    = 32
	maxPath      = 2048
	maxUserAgent = 512
	maxReferrer  = 1024
)

// maxLine bounds a line: every byte may need six, and the names and numbers have their place.
const maxLine = 6*(7*maxName+2*maxMethod+maxPath+maxUserAgent+maxReferrer) + 1024

// An Entry is one request, and what became of it. Strings may be whatever the client sent.
type Entry struct {
	Time     time.Time // when its head was there
	Listener string
	Client   string // ip:port
	Method   string
	Host     string // as the client asked
	Path     string // a query is not logged
	Protocol string // such as HTTP/1.1

	Status   int           // 0: it was not answered
	BytesIn  int64         // of the request's body
	BytesOut int64         // of the answer's body
	Duration time.Duration // until the answer was sent, or its end
	Held     time.Duration // of Duration: while there was no target

	Target   string // ip:port; empty when it reached none
	TargetID string
	Attempts int // to reach a target

	UserAgent string
	Referrer  string // without its query
}

// append appends the line of e to b. It needs maxLine bytes at most.
func (e *Entry) append(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	b = append(b, '"')
	b = text(b, "listener", e.Listener, maxName)
	b = text(b, "client", e.Client, maxName)
	b = text(b, "method", e.Method, maxMethod)
	b = text(b, "host", e.Host, maxName)
	b = text(b, "path", bare(e.Path), maxPath)
	b = text(b, "protocol", e.Protocol, maxMethod)
	b = number(b, "status", int64(e.Status))
	b = number(b, "bytes_in", e.BytesIn)
	b = number(b, "bytes_out", e.BytesOut)
	b = milliseconds(b, "duration_ms", e.Duration)
	if e.Held > 0 {
		b = milliseconds(b, "held_ms", e.Held)
	}
	b = optional(b, "target", e.Target, maxName)
	b = optional(b, "target_id", e.TargetID, maxName)
	b = number(b, "attempts", int64(e.Attempts))
	b = optional(b, "user_agent", e.UserAgent, maxUserAgent)
	b = optional(b, "referrer", bare(e.Referrer), maxReferrer)
	return append(b, "}\n"...)
}

// appendDropped appends the line that stands for n entries.
func appendDropped(b []byte, n int64) []byte {
	b = append(b, `{"time":"`...)
	b = time.Now().UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z07:00")
	b = append(b, '"')
	b = number(b, "dropped", n)
	return append(b, "}\n"...)
}

// bare is a path or URL without query and fragment.
func bare(s string) string {
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		return s[:i]
	}
	return s
}

// key appends a key, behind another one.
func key(b []byte, name string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	return append(b, `":`...)
}

func number(b []byte, name string, n int64) []byte { return strconv.AppendInt(key(b, name), n, 10) }

func milliseconds(b []byte, name string, d time.Duration) []byte {
	return strconv.AppendFloat(key(b, name), float64(d.Microseconds())/1000, 'f', 3, 64)
}

func optional(b []byte, name, value string, limit int) []byte {
	if value == "" {
		return b
	}
	return text(b, name, value, limit)
}

// text appends a string, of which at most limit bytes are used.
func text(b []byte, name, value string, limit int) []byte {
	b = append(key(b, name), '"')
	long := len(value) > limit
	if long {
		end := limit
		for end > limit-utf8.UTFMax && !utf8.RuneStart(value[end]) {
			end-- // not within a character
		}
		value = value[:end]
	}
	start := 0
	for i := 0; i < len(value); {
		if c := value[i]; c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(value[i:])
		if r != utf8.RuneError && r >= utf8.RuneSelf && unicode.IsPrint(r) {
			i += n
			continue
		}
		b = append(b, value[start:i]...)
		i += n
		start = i
		b = escape(b, r)
	}
	b = append(b, value[start:]...)
	if long {
		b = append(b, "…"...)
	}
	return append(b, '"')
}

// escape appends a rune that must not appear as it is.
func escape(b []byte, r rune) []byte {
	if r == '"' || r == '\\' {
		return append(b, '\\', byte(r))
	}
	if r > 0xffff {
		r -= 0x10000
		return escape(escape(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}
