package dockertest_test

import (
	"testing"

	"github.com/gantryd/gantryd/internal/dockertest"
)

func TestImagesAreTheSameBitsEveryTime(t *testing.T) {
	a, err := dockertest.AppImage(t, "v1").ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	b, err := dockertest.AppImage(t, "v1").ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	c, err := dockertest.AppImage(t, "v2").ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if a != b || a == c {
		t.Errorf("image IDs of v1, v1, v2 = %v, %v, %v; want the first two equal and the third different", a, b, c)
	}
}

func TestAppIsOnTheEngine(t *testing.T) {
	dockertest.Engine(t)
	_, first := dockertest.App(t, "v1")
	_, again := dockertest.App(t, "v1")
	if first != again || first == "" {
		t.Errorf("image IDs of v1 = %q, %q; want the same twice", first, again)
	}
	want, err := dockertest.AppImage(t, "v1").ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if first != want.String() {
		t.Errorf("image ID on the Engine = %s, want the one built, %s", first, want)
	}
}
