package dockertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Repo is the repository of the images made here.
const Repo = "gantryd-test/app"

// A Variant is an image of internal/testapp. Two different variants have different image IDs.
type Variant struct {
	Version     string            // VERSION in the image's environment
	Env         []string          // NAME=value
	Labels      map[string]string // of the image
	NoCommand   bool              // neither Entrypoint nor Cmd
	NoProgram   bool              // nothing to run: an image that is quick to make and to pull
	Cmd         []string          // default: none; the entry point is the program
	User        string
	WorkingDir  string
	Volumes     []string
	Healthcheck []string // such as CMD /app check http://127.0.0.1:8080/healthz, run every second
	Extra       string   // seed of a second layer of 256 KiB that no other image has; none when empty
}

// App makes sure that the image of internal/testapp in this version is on the Engine.
func App(t testing.TB, version string) (ref, imageID string) {
	t.Helper()
	return Image(t, Variant{Version: version})
}

// Image makes sure that the variant is on the Engine, and returns its repo:tag and image ID.
func Image(t testing.TB, v Variant) (ref, imageID string) {
	t.Helper()
	return ImageOn(t, Engine(t), v)
}

// ImageOn is Image for an Engine of the caller's choice.
func ImageOn(t testing.TB, cli *client.Client, v Variant) (ref, imageID string) {
	t.Helper()
	ref = Repo + ":" + v.tag(t)
	if id, err := found(t, cli, ref); err == nil {
		return ref, id
	}
	return ref, load(t, cli, ref, Build(t, v))
}

// found is the ID of the image that the Engine has under ref.
func found(t testing.TB, cli *client.Client, ref string) (string, error) {
	t.Helper()
	ctx, cancel := bounded(t)
	defer cancel()
	got, err := cli.ImageInspect(ctx, ref)
	return got.ID, err
}

// AppImage is the image of App as a value, for a registry.
func AppImage(t testing.TB, version string) v1.Image {
	t.Helper()
	return Build(t, Variant{Version: version})
}

// tag names the variant by its version and by the hash of all it is made of.
func (v Variant) tag(t testing.TB) string {
	t.Helper()
	spec, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return v.Version + "-" + hash(t, string(spec))
}

// hash names what is made of testapp's sources and of more.
func hash(t testing.TB, more string) string {
	t.Helper()
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOARCH, more)
	sources, err := filepath.Glob(filepath.Join(moduleRoot(t), "internal", "testapp", "*.go"))
	if err != nil || len(sources) == 0 {
		t.Fatalf("find the sources of testapp: %v", err)
	}
	for _, s := range sources {
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// moduleRoot is the directory of go.mod; tests run inside it.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d
		}
		if d == filepath.Dir(d) {
			t.Fatalf("find go.mod above %q", dir)
		}
	}
}

// Build makes the image of the variant as a value. It is the same bits every time.
func Build(t testing.TB, v Variant) v1.Image {
	t.Helper()
	var layers []v1.Layer
	if !v.NoProgram {
		layers = append(layers, newLayer(t, "app", Program(t)))
	}
	if v.Extra != "" {
		b := make([]byte, 256<<10)
		if _, err := rand.NewChaCha8(sha256.Sum256([]byte(v.Extra))).Read(b); err != nil {
			t.Fatal(err)
		}
		layers = append(layers, newLayer(t, "extra", b))
	}
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	file = file.DeepCopy()
	file.Architecture, file.OS, file.Created = runtime.GOARCH, "linux", v1.Time{Time: fixedTime()}
	file.Config = v.config()
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatalf("make image: %v", err)
	}
	return img
}

// Program is testapp, compiled. It is kept in the user's cache directory, since linking it takes
// longer than most tests.
func Program(t testing.TB) []byte {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	dir := filepath.Join(cache, "gantryd-test")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "app-"+hash(t, "program"))
	if b, err := os.ReadFile(bin); err == nil {
		return b
	}
	part := filepath.Join(t.TempDir(), "app")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", part, "./internal/testapp")
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build testapp: %v\n%s", err, out)
	}
	b, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, bin, b)
	return b
}

// keep writes the file as one step, for other test processes read it.
func keep(t testing.TB, path string, b []byte) {
	t.Helper()
	f, err := os.CreateTemp(filepath.Dir(path), "part-")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		t.Fatalf("keep %q: %v", path, err)
	}
}

func fixedTime() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }

// newLayer holds one file.
func newLayer(t testing.TB, name string, b []byte) v1.Layer {
	t.Helper()
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return layerTar(name, b) }, tarball.WithCompressionLevel(gzip.BestSpeed))
	if err != nil {
		t.Fatalf("make layer: %v", err)
	}
	return layer
}

// layerTar holds one file, and an empty /tmp.
func layerTar(name string, bin []byte) (io.ReadCloser, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(bin))},
	} {
		h.ModTime = fixedTime()
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
	}
	if _, err := w.Write(bin); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return io.NopCloser(&buf), nil
}

func (v Variant) config() v1.Config {
	c := v1.Config{
		Env:        append([]string{"PATH=/", "VERSION=" + v.Version}, v.Env...),
		Labels:     v.Labels,
		Cmd:        v.Cmd,
		User:       v.User,
		WorkingDir: v.WorkingDir,
	}
	if !v.NoCommand {
		c.Entrypoint = []string{"/app"}
	}
	if len(v.Healthcheck) > 0 {
		c.Healthcheck = &v1.HealthConfig{Test: v.Healthcheck, Interval: time.Second, Timeout: 10 * time.Second, Retries: 1}
	}
	for _, path := range v.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[path] = struct{}{}
	}
	return c
}

// load gives the image to the Engine under ref, and returns its ID.
func load(t testing.TB, cli *client.Client, ref string, img v1.Image) string {
	t.Helper()
	tag, err := name.NewTag(ref, name.WithDefaultRegistry(""))
	if err != nil {
		t.Fatalf("parse %q: %v", ref, err)
	}
	var buf bytes.Buffer
	if err := tarball.Write(tag, img, &buf); err != nil {
		t.Fatalf("write image: %v", err)
	}
	ctx, cancel := bounded(t) // not before: who came first had to compile the program
	defer cancel()
	resp, err := cli.ImageLoad(ctx, &buf)
	if err != nil {
		t.Fatalf("load image %q: %v", ref, err)
	}
	defer resp.Body.Close()
	if out, err := io.ReadAll(resp.Body); err != nil || bytes.Contains(out, []byte(`"error"`)) {
		t.Fatalf("load image %q: %v: %s", ref, err, out)
	}
	id, err := found(t, cli, ref)
	if err != nil {
		t.Fatalf("inspect image %q: %v", ref, err)
	}
	return id
}

// Forget removes the image from the Engine when the test ends, by whatever names it has.
func Forget(t testing.TB, imageID string) {
	t.Helper()
	cli := Engine(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
		defer cancel()
		_, err := cli.ImageRemove(ctx, imageID, image.RemoveOptions{Force: true, PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) {
			t.Errorf("remove image %s: %v", imageID, err)
		}
	})
}
