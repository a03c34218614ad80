// Package debiantest fetches real servers from Debian's packages, for tests that put them behind
// gantryd or beside it:
//
//	tree := debiantest.Unpack(t, "docker", "nginx", "wrk")
//	cmd := tree.Command(t.Context(), t, "/usr/bin/wrk", "-c20", url)
//
// apt-get unpacks them into a folder below .cache, where the next run finds them: nothing is
// installed on the machine, and no registry of images is asked.
//
// A Tree does not change; all of its methods may be called at once. The package knows none of the
// servers.
package debiantest
