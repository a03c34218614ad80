package component

import (
	"fmt"
	"slices"
	"strings"
)

// InLinkOrder are the components so that one that exports a link comes before those that import it; else in
// the order given. Links that components outside of the list export do not count. Links that form a cycle are
// an error.
func InLinkOrder(specs []Spec) ([]string, error) {
	left := slices.Clone(specs)
	var out []string
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(s Spec) bool { return !imports(s, left) })
		if i < 0 {
			var names []string
			for _, s := range left {
				names = append(names, s.Name)
			}
			return nil, fmt.Errorf("links form a cycle among the components %s: none of them can come first", strings.Join(names, ", "))
		}
		out = append(out, left[i].Name)
		left = slices.Delete(left, i, i+1)
	}
	return out, nil
}

// imports reports whether s needs a link that another one of others exports.
func imports(s Spec, others []Spec) bool {
	return slices.ContainsFunc(others, func(o Spec) bool {
		return o.Name != s.Name && slices.ContainsFunc(o.DefineComponentLinks, func(l LinkDefinition) bool {
			return slices.ContainsFunc(s.RequireComponentLinks, func(r LinkRequest) bool { return r.Name == l.Name })
		})
	})
}
