package routes

import "strings"

// odd reports whether a path could be read in more than one way: it has an escape, a parameter, a
// backslash, an empty segment or one of dots only.
func odd(path string) bool {
	for i := range len(path) {
		switch path[i] {
		case '%', ';', '\\':
			return true
		case '/':
			if i+1 < len(path) && (path[i+1] == '/' || path[i+1] == '.') {
				rest := path[i+1:]
				if rest[0] == '/' || dots(segment(rest)) {
					return true
				}
			}
		}
	}
	return false
}

// segment is s up to the first slash.
func segment(s string) string {
	first, _, _ := strings.Cut(s, "/")
	return first
}

// dots reports whether a segment is a way to itself or up.
func dots(segment string) bool { return segment == "." || segment == ".." }

// readings are the ways in which servers read a path.
func readings(path string) []string {
	unescaped := unescape(path, false)
	all := strings.ReplaceAll(unescape(path, true), `\`, "/")
	ways := []string{unescaped, all, withoutParameters(path), withoutParameters(all)}
	for _, way := range ways {
		ways = append(ways, withoutEmpty(way))
	}
	return append(ways, withoutEmpty(path))
}

// wayUp reports whether some server could find a segment of dots in path.
func wayUp(path string) bool {
	all := withoutParameters(strings.ReplaceAll(unescape(path, true), `\`, "/"))
	for s := range strings.SplitSeq(all, "/") {
		if dots(s) {
			return true
		}
	}
	return false
}

// unescape decodes every escape that is one, those of slashes too if so asked.
func unescape(path string, slashes bool) string {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			high, ok := unhex(path[i+1])
			low, ok2 := unhex(path[i+2])
			if c := high<<4 | low; ok && ok2 && (slashes || c != '/' && c != '\\') {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// withoutParameters drops from each segment what follows a semicolon.
func withoutParameters(path string) string {
	if !strings.Contains(path, ";") {
		return path
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		segments[i], _, _ = strings.Cut(s, ";")
	}
	return strings.Join(segments, "/")
}

// withoutEmpty makes one slash of several.
func withoutEmpty(path string) string {
	if !strings.Contains(path, "//") {
		return path
	}
	var b strings.Builder
	for i := range len(path) {
		if path[i] != '/' || i == 0 || path[i-1] != '/' {
			b.WriteByte(path[i])
		}
	}
	return b.String()
}
