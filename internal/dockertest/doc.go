// Package dockertest helps tests that need a Docker Engine.
//
//	cli := dockertest.Engine(t)               // skips when no Engine answers
//	project := dockertest.Project(t)          // its containers are removed when the test ends
//	ref, id := dockertest.App(t, "v1")        // the image of internal/testapp
//	reg := dockertest.StartRegistry(t)        // a registry that the Engine can pull from
//	ref, digest := reg.Push(t, "web:v1", dockertest.AppImage(t, "v1"))
//
// Images are made of a static program alone, without a base image, and are the same bits every
// time: building one twice gives the same image ID, on every machine of one architecture. They are
// kept between runs under the repository gantryd-test/app.
//
// A test is skipped with its reason when no Engine answers, unless the variable GANTRYD_REQUIRE
// lists docker: then it fails.
//
// All functions may be called at once. The package knows Docker's own client only, not pkg/engine,
// so that pkg/engine's tests can use it.
package dockertest
