package config

import (
	"fmt"
	"strings"
)

// didYouMean is the end of a message that closest answered for.
func didYouMean(guess string, ok bool) string {
	if !ok {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", guess)
}

// closest is the one of known that s is most probably a misspelling of.
func closest(s string, known []string) (string, bool) {
	const longest, most = 64, 500 // nobody misspells a longer word; a guess must cost little
	if len(s) > longest || len(known) > most {
		return "", false
	}
	best, least := "", 1+min(max(1, len(s)/3), len(s)-1)
	for _, k := range known {
		if d := distance(strings.ToLower(s), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best, best != ""
}

// distance counts the letters to insert, delete, replace or swap with their neighbour to make b of a.
func distance(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
