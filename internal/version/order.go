package version

import (
	"fmt"
	"strings"
)

// Older reports whether version a, as of Info.String, is older than b. False when that cannot be told: of a
// version without a number nobody knows.
func Older(a, b string) bool {
	x, ok := numbers(a)
	y, known := numbers(b)
	if !ok || !known {
		return false
	}
	for i := range x {
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

// numbers are major, minor, patch, and the commits since, of "v1.4.0-3-g3f2a9c1 (…)".
func numbers(v string) (n [4]int, ok bool) {
	v, _, _ = strings.Cut(v, " ")
	if got, err := fmt.Sscanf(v, "v%d.%d.%d", &n[0], &n[1], &n[2]); err != nil || got != 3 {
		return n, false
	}
	if _, commits, found := strings.Cut(v, "-"); found {
		_, _ = fmt.Sscanf(commits, "%d-g", &n[3]) // another suffix, such as -dirty, counts nothing
	}
	return n, true
}
