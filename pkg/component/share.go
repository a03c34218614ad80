package component

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A Share is a number of hosts, written as a number, or a part of them, written as text such as
// "25%". A part is held as its negative: -25.
type Share int

// Of is how many of so many hosts s is: of a part the whole hosts in it, but one at least. Nothing
// set is 0.
func (s Share) Of(hosts int) int {
	if s >= 0 {
		return int(s)
	}
	return max(1, int(-s)*hosts/100)
}

// String is the form that UnmarshalText reads.
func (s Share) String() string {
	if s < 0 {
		return strconv.Itoa(int(-s)) + "%"
	}
	return strconv.Itoa(int(s))
}

// MarshalJSON implements json.Marshaler.
func (s Share) MarshalJSON() ([]byte, error) {
	if s < 0 {
		return json.Marshal(s.String())
	}
	return json.Marshal(int(s))
}

// UnmarshalJSON implements json.Unmarshaler: a number, or a text.
func (s *Share) UnmarshalJSON(b []byte) error {
	var n int
	if json.Unmarshal(b, &n) == nil && n >= 0 {
		*s = Share(n)
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("%s is neither a number of hosts nor a part such as \"25%%\"", b)
	}
	return s.UnmarshalText([]byte(text))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Share) UnmarshalText(b []byte) error {
	number, part := strings.CutSuffix(string(b), "%")
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || part && (n == 0 || n > 100) {
		return fmt.Errorf("%q is neither a number of hosts nor a part such as \"25%%\"", b)
	}
	*s = Share(n)
	if part {
		*s = Share(-n)
	}
	return nil
}
