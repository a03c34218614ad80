package engine

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gantryd/gantryd/internal/dockertest"
	"github.com/gantryd/gantryd/pkg/component"
)

// pushed puts an image that nobody has yet into a registry. The Engine forgets it when the test ends.
func pushed(t testing.TB, reg *dockertest.Registry, path string) (ref, digest, imageID string) {
	t.Helper()
	img := dockertest.Build(t, dockertest.Variant{Version: path, NoProgram: true, Extra: path + time.Now().String()})
	return push(t, reg, path, img)
}

func push(t testing.TB, reg *dockertest.Registry, path string, img v1.Image) (ref, digest, imageID string) {
	t.Helper()
	ref, digest = reg.Push(t, path, img)
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	dockertest.Forget(t, id.String())
	return ref, digest, id.String()
}

func TestResolveLocalImage(t *testing.T) {
	e := realEngine(t)
	ref, id := dockertest.App(t, "v1")
	for _, when := range []PullPolicy{PullMissing, PullNever} {
		img, got, err := e.Resolve(t.Context(), ref, when, nil)
		if err != nil || got != id || img != (component.Image{Ref: ref}) {
			t.Errorf("Resolve(%q, %s) = %+v, %s, %v; want ID %s and no digest", ref, when, img, got, err, id)
		}
	}
	if ok, err := e.ImagePresent(t.Context(), id); err != nil || !ok {
		t.Errorf("ImagePresent(%s) = %v, %v; want true", id, ok, err)
	}
	if ok, err := e.ImagePresent(t.Context(), "sha256:"+strings.Repeat("0", 64)); err != nil || ok {
		t.Errorf("ImagePresent of no image = %v, %v; want false", ok, err)
	}
	if ok, err := e.ImagePresent(t.Context(), ref); err != nil || ok {
		t.Errorf("ImagePresent of a name = %v, %v; want false: names are not content", ok, err)
	}
	if _, _, err := e.Resolve(t.Context(), "gantryd-test/absent:1", PullNever, nil); err == nil {
		t.Error("Resolve of an absent image without pulling worked")
	}
	if _, _, err := e.Resolve(t.Context(), ref, "sometimes", nil); err == nil {
		t.Error("Resolve by an unknown policy worked")
	}
	if _, _, err := e.Resolve(t.Context(), "Not A Name", PullMissing, nil); err == nil {
		t.Error("Resolve of nonsense worked")
	}
}

func TestResolvePullsFromARegistry(t *testing.T) {
	e := realEngine(t)
	reg := dockertest.StartRegistry(t)
	ref, digest, id := pushed(t, reg, "shop/web:v1")
	var lines []string
	img, got, err := e.Resolve(t.Context(), ref, PullMissing, func(s string) { lines = append(lines, s) })
	if err != nil || got != id || img != (component.Image{Ref: ref, Digest: digest}) {
		t.Fatalf("Resolve = %+v, %s, %v; want digest %s and ID %s", img, got, err, digest, id)
	}
	if len(lines) < 2 || lines[0] != "pulling "+ref || !strings.Contains(lines[len(lines)-1], "Downloaded newer image for "+ref) {
		t.Errorf("progress = %q, want a first and a last line", lines)
	}
	before, _ := reg.Counts()
	if _, _, err := e.Resolve(t.Context(), ref, PullMissing, nil); err != nil {
		t.Fatal(err)
	}
	if after, _ := reg.Counts(); after != before {
		t.Error("an image that is there was pulled again")
	}

	// The tag moves on: only PullAlways notices.
	_, digest2, id2 := pushed(t, reg, "shop/web:v1")
	if _, got, err := e.Resolve(t.Context(), ref, PullMissing, nil); err != nil || got != id {
		t.Errorf("Resolve = %s, %v; want the local image %s", got, err, id)
	}
	if img, got, err := e.Resolve(t.Context(), ref, PullAlways, nil); err != nil || got != id2 || img.Digest != digest2 {
		t.Errorf("Resolve = %+v, %s, %v; want the new image %s, %s", img, got, err, digest2, id2)
	}
}

func TestPullByDigest(t *testing.T) {
	e := realEngine(t)
	reg := dockertest.StartRegistry(t)
	ref, digest, id := push(t, reg, "web:v1", dockertest.Build(t, dockertest.Variant{Version: "v1", Extra: time.Now().String()}))
	pushed(t, reg, "web:v1") // the tag names something else by now
	img := component.Image{Ref: ref, Digest: digest}
	if err := e.Pull(t.Context(), img, id, nil); err != nil {
		t.Fatal(err)
	}
	if ok, err := e.ImagePresent(t.Context(), id); err != nil || !ok {
		t.Fatalf("ImagePresent = %v, %v; want true", ok, err)
	}
	got, err := e.inspectImage(t.Context(), id)
	if err != nil || len(got.RepoTags) != 0 {
		t.Errorf("tags = %v, %v; want none: names stay as they are", got.RepoTags, err)
	}
	r := component.StartRequest{Component: "web", Hash: "h", Release: component.Release{ImageID: id, Image: img, Spec: component.Spec{Name: "web"}}}
	c := find(t, e, start(t, e, r))
	if c.ImageID != id || c.ImageName != component.Short(id) {
		t.Errorf("container runs %s, shown as %q; want %s, shown as %q", c.ImageID, c.ImageName, id, component.Short(id))
	}
	if err := e.RemoveImage(t.Context(), id); err != nil {
		t.Errorf("RemoveImage of an image in use: %v", err)
	}
	if ok, err := e.ImagePresent(t.Context(), id); err != nil || !ok {
		t.Errorf("ImagePresent = %v, %v; want an image in use left alone", ok, err)
	}
	if err := e.Kill(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.RemoveImage(t.Context(), id); err != nil {
			t.Errorf("RemoveImage: %v", err)
		}
	}
	if ok, err := e.ImagePresent(t.Context(), id); err != nil || ok {
		t.Errorf("ImagePresent = %v, %v; want the unused image gone", ok, err)
	}
}

func TestRemoveImageOfSeveralRepositories(t *testing.T) {
	e := realEngine(t)
	reg := dockertest.StartRegistry(t)
	img := dockertest.Build(t, dockertest.Variant{Version: "two", NoProgram: true, Extra: time.Now().String()})
	for _, path := range []string{"a:v1", "b:v1"} {
		ref, digest, id := push(t, reg, path, img)
		if err := e.Pull(t.Context(), component.Image{Ref: ref, Digest: digest}, id, nil); err != nil {
			t.Fatal(err)
		}
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.RemoveImage(t.Context(), id.String()); err != nil {
		t.Fatal(err)
	}
	if ok, err := e.ImagePresent(t.Context(), id.String()); err != nil || ok {
		t.Errorf("ImagePresent = %v, %v; want it gone", ok, err)
	}
}

func TestRemoveImageLeavesNamedOnes(t *testing.T) {
	e := realEngine(t)
	_, id := dockertest.App(t, "v1")
	if err := e.RemoveImage(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if ok, err := e.ImagePresent(t.Context(), id); err != nil || !ok {
		t.Errorf("ImagePresent = %v, %v; want a tagged image left alone", ok, err)
	}
}

func TestPullOfOtherBits(t *testing.T) {
	e := realEngine(t)
	reg := dockertest.StartRegistry(t)
	ref, _, id := pushed(t, reg, "web:v1")
	want := "sha256:" + strings.Repeat("1", 64)
	err := e.Pull(t.Context(), component.Image{Ref: ref}, want, nil)
	var mismatch *ImageMismatchError
	if !errors.As(err, &mismatch) || mismatch.Want != want || mismatch.Got != id {
		t.Fatalf("Pull = %v, want a mismatch of %s and %s", err, want, id)
	}
	if s := err.Error(); !strings.Contains(s, want) || !strings.Contains(s, id) {
		t.Errorf("message %q does not have both IDs", s)
	}
}

func TestPullFaults(t *testing.T) {
	e := realEngine(t)
	tests := []struct {
		name  string
		fault dockertest.Fault
		want  string
	}{
		{"no such image", dockertest.Fault{Manifests: 404}, "manifest"},
		{"too many requests", dockertest.Fault{Manifests: 429}, "toomanyrequests"},
		{"broken registry", dockertest.Fault{Manifests: 500}, "500"},
		{"layer that stalls", dockertest.Fault{Stall: true}, "no progress within 1s"},
		{"layer that never comes whole", dockertest.Fault{CutLayers: 1000}, "no progress within 1s"},
		{"no credentials", dockertest.Fault{User: "u", Password: "p"}, "no basic auth credentials"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reg := dockertest.StartRegistry(t)
			ref, digest, id := pushed(t, reg, fmt.Sprintf("fault%d:v1", i))
			reg.SetFault(tt.fault)
			if usual := e.limits.pullIdle; strings.HasPrefix(tt.want, "no progress") {
				e.limits.pullIdle = time.Second
				defer func() { e.limits.pullIdle = usual }()
			}
			began := time.Now()
			err := e.Pull(t.Context(), component.Image{Ref: ref, Digest: digest}, id, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), digest) || !strings.Contains(err.Error(), reg.Host) {
				t.Errorf("Pull = %v, want %q, registry and digest in it", err, tt.want)
			}
			if errors.Is(err, ErrUnreachable) {
				t.Errorf("Pull = %v, which blames the Engine", err)
			}
			if took := time.Since(began); took > 5*time.Minute { // a layer stalls for twice that
				t.Errorf("Pull took %s", took)
			}
			repo, _, _ := strings.Cut(ref, ":v1")
			_, _, err = e.Resolve(t.Context(), ref, PullMissing, nil)
			if err == nil || !strings.HasPrefix(err.Error(), "Could not pull repo "+repo+": ") {
				t.Errorf("Resolve = %v, want the original's words", err)
			}
			reg.SetFault(dockertest.Fault{})
			e.limits.pullIdle = time.Minute
			if err := e.Pull(t.Context(), component.Image{Ref: ref, Digest: digest}, id, nil); err != nil {
				t.Errorf("Pull once the registry works: %v", err)
			}
		})
	}
}

func TestPullSurvivesACutLayer(t *testing.T) {
	if testing.Short() {
		t.Skip("the Engine waits 5 s and more before it tries again")
	}
	e := realEngine(t)
	reg := dockertest.StartRegistry(t)
	ref, digest, id := pushed(t, reg, "cut:v1")
	reg.SetFault(dockertest.Fault{CutLayers: 1})
	if err := e.Pull(t.Context(), component.Image{Ref: ref, Digest: digest}, id, nil); err != nil {
		t.Errorf("Pull = %v, want the Engine to try again", err)
	}
}

func TestConcurrentPulls(t *testing.T) {
	e := realEngine(t)
	reg := dockertest.StartRegistry(t)
	ref, digest, id := pushed(t, reg, "same:v1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := e.Pull(t.Context(), component.Image{Ref: ref, Digest: digest}, id, func(string) {}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestCredentials(t *testing.T) {
	reg := dockertest.StartRegistry(t)
	ref, digest, id := pushed(t, reg, "private:v1")
	reg.SetFault(dockertest.Fault{User: "ann", Password: "pa:ss"})

	// One helper knows the password, one knows nobody, one hangs.
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, script := range map[string]string{
		"good":  `read url; echo "$url" >> ` + bin + `/asked; echo '{"ServerURL":"x","Username":"ann","Secret":"pa:ss"}'`,
		"empty": `echo "credentials not found in native keychain"; exit 1`,
		"slow":  `sleep 30`,
		"sick":  `echo "no keychain here" >&2; exit 3`,
	} {
		if err := os.WriteFile(filepath.Join(bin, "docker-credential-"+name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	auth := base64.StdEncoding.EncodeToString([]byte("ann:pa:ss"))
	wrong := base64.StdEncoding.EncodeToString([]byte("ann:wrong"))
	tests := []struct {
		name, config, want string // want is part of the error; empty: it works
	}{
		{"in the config", `{"auths":{"` + reg.Host + `":{"auth":"` + auth + `"}}}`, ""},
		{"in the config with a scheme", `{"auths":{"http://` + reg.Host + `/v1/":{"auth":"` + auth + `"}}}`, ""},
		{"helper of the registry", `{"credHelpers":{"` + reg.Host + `":"good"}}`, ""},
		{"helper of all registries", `{"credsStore":"good"}`, ""},
		{"wrong password", `{"auths":{"` + reg.Host + `":{"auth":"` + wrong + `"}}}`, "unauthorized"},
		{"none", `{}`, "no basic auth credentials"},
		{"helper that knows nobody", `{"credsStore":"empty"}`, "no basic auth credentials"},
		{"helper that hangs", `{"credsStore":"slow"}`, "docker-credential-slow: not done within 500ms"},
		{"helper that fails", `{"credsStore":"sick"}`, "no keychain here"},
		{"helper that is not there", `{"credsStore":"absent"}`, "docker-credential-absent"},
		{"config that does not parse", `{`, "read docker config"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(tt.config), 0o600); err != nil {
				t.Fatal(err)
			}
			e := newEngine(t, "p", map[string]string{"DOCKER_CONFIG": dir})
			if strings.Contains(tt.config, "slow") {
				e.limits.helper = 500 * time.Millisecond
			}
			err := e.Pull(t.Context(), component.Image{Ref: ref, Digest: digest}, id, nil)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Pull = %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("Pull = %v, want %q in it", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "pa:ss") {
				t.Errorf("the password is in the message: %v", err)
			}
			if err == nil {
				if _, err := dockertest.Engine(t).ImageRemove(t.Context(), id, image.RemoveOptions{Force: true}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if b, err := os.ReadFile(bin + "/asked"); err != nil || !strings.HasPrefix(string(b), reg.Host) {
		t.Errorf("the helper was asked about %q, %v; want %q", b, err, reg.Host)
	}
}
