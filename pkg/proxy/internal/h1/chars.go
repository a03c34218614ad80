package h1

import "encoding/binary"

// Sets of characters below 128 as bits: low has those below 64, high the others, moved down by 64.
const (
	digitsLow   = (1<<10 - 1) << '0'
	lettersHigh = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64)

	tokenLow  = digitsLow | 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.'
	tokenHigh = lettersHigh | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64)

	hostLow  = digitsLow | 1<<'-' | 1<<'.'
	hostHigh = lettersHigh | 1<<('_'-64)
)

func has(low, high uint64, c byte) bool {
	return (uint64(1)<<c)&low|(uint64(1)<<(c-64))&high != 0 // shifts beyond 63 give 0
}

// isToken reports whether s may be a method or the name of a field.
func isToken(s []byte) bool {
	for _, c := range s {
		if !has(tokenLow, tokenHigh, c) {
			return false
		}
	}
	return len(s) > 0
}

// isValue reports whether s may be the value of a field: no control characters but tabs.
func isValue(s []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(s) >= 8 {
		x := binary.LittleEndian.Uint64(s)
		del := x ^ 0x7f*ones
		// A byte below 0x20, or one that is 0x7f; tabs are looked at below.
		if (x-0x20*ones)&^x&tops|(del-ones)&^del&tops != 0 && !plain(s[:8]) {
			return false
		}
		s = s[8:]
	}
	return plain(s)
}

func plain(s []byte) bool {
	for _, c := range s {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// hexValue is what a hexadecimal digit stands for; false for another character.
func hexValue(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// equalFold reports whether s is lower, which is in lower case, in any case.
func equalFold(s []byte, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(lower) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// trim removes spaces and tabs at both ends.
func trim(s []byte) []byte {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
