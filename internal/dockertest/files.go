package dockertest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// A File is a file of an image.
type File struct {
	Path string // in the image; an empty directory when it ends with a slash
	Mode int64
	Body []byte
}

// Files makes sure that an image of nothing but these files is on the Engine, under
// gantryd-test/NAME with a tag made of its content, and returns its repo:tag and image ID.
func Files(t testing.TB, name string, files []File, command ...string) (ref, imageID string) {
	t.Helper()
	cli := Engine(t)
	ref = path.Dir(Repo) + "/" + name + ":" + contentTag(t, files, command)
	if id, err := found(t, cli, ref); err == nil {
		return ref, id
	}
	body, err := filesTar(files)
	if err != nil {
		t.Fatalf("make layer: %v", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil })
	if err != nil {
		t.Fatalf("make layer: %v", err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	img, err = mutate.ConfigFile(img, &v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux", Created: v1.Time{Time: fixedTime()},
		Config: v1.Config{Cmd: command, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		RootFS: rootFS(t, img),
	})
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	return ref, load(t, cli, ref, img)
}

func rootFS(t testing.TB, img v1.Image) v1.RootFS {
	t.Helper()
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatalf("make image: %v", err)
	}
	return file.RootFS
}

func contentTag(t testing.TB, files []File, command []string) string {
	t.Helper()
	b, err := json.Marshal(struct {
		Files   []File
		Command []string
	}{files, command})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])[:12]
}

// filesTar holds the files in the order given, each folder before what is in it; of a path that is
// given twice, the first.
func filesTar(files []File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	var made []string
	again := func(name string) bool { // Docker Engine refuses a path that comes twice
		if slices.Contains(made, name) {
			return true
		}
		made = append(made, name)
		return false
	}
	mkdir := func(dir string, mode int64) error {
		if dir == "." || again(dir) {
			return nil
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: fixedTime()})
	}
	for _, f := range files {
		name := strings.TrimPrefix(f.Path, "/")
		parts := strings.Split(path.Dir(strings.TrimSuffix(name, "/")), "/")
		for i := range parts {
			if err := mkdir(path.Join(parts[:i+1]...), 0o755); err != nil {
				return nil, err
			}
		}
		if strings.HasSuffix(name, "/") {
			if err := mkdir(path.Clean(name), f.Mode); err != nil {
				return nil, err
			}
			continue
		}
		if again(name) {
			continue
		}
		h := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.Mode, Size: int64(len(f.Body)), ModTime: fixedTime()}
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.Body); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
