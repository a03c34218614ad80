package cli

import "strings"

// gantrydArgs brings the original's way of writing flags into the form that the flag library knows:
// long flags with one dash (-etcd HOST), and several values after one -c (-c a b).
func gantrydArgs(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		name, value, hasValue := strings.Cut(a, "=")
		switch {
		case a == "--":
			return append(out, args[i:]...)
		case name == "-etcd" || name == "-etcdport":
			out = append(out, "-"+a)
		case a == "-c" || a == "--component":
			n := 0
			for i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				i++
				n++
				out = append(out, "-c", args[i])
			}
			if n == 0 {
				out = append(out, a) // the flag library says what is missing
			}
		case hasValue && name == "-c":
			out = append(out, "-c", value)
		default:
			out = append(out, a)
		}
	}
	return out
}
