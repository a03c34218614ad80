// Package routes decides which of several listeners on one address an HTTP request is for.
//
//	t, err := routes.New([]routes.Rule[*front]{{Name: `"web:80" of "web"`, Hosts: []string{"shop.example"}, Path: "/api", Value: f}})
//	name, _, err := hostname.FromAuthority(host)
//	f, verdict := t.Find(name, path)
//
// An exact host comes before a wildcard, and that before no host; among those, the longer path before
// the shorter. A path matches itself and what is below it: /api matches /api and /api/x, not /apix.
// Two rules for the same host and path are a conflict.
//
// A target may read a path in another way than we do: %61 for a, %2F or a backslash for a slash, dots
// for the way up. Where rules have paths, a request whose listener depends on the way of reading is
// Ambiguous, and no target should get it. Where the host alone decides, any path is as good as any other.
//
// A Table never changes; build another one and swap it. Find may be called by many at once, and
// allocates nothing unless the path is one of those that can be read in two ways.
package routes
