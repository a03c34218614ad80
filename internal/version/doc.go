// Package version says which gantryd this is.
//
// The Makefile stamps the version with the linker, from the nearest tag. A binary built by
// `go install module@version` carries it in its build information instead, and one built by
// `go build` in a checkout carries the commit.
//
//	fmt.Fprintln(out, version.Get()) // v1.4.0 (3f2a9c1d7b04, go1.26.8, linux/amd64)
//
// Get has no state and may be called from anywhere. The package knows nothing of releases; it only
// reads what the build left in the binary.
package version
