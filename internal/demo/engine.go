package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// engine is Docker Engine's own HTTP interface: the demo needs three calls and no client.
type engine struct{ http *http.Client }

func newEngine() (*engine, error) {
	socket := "/var/run/docker.sock"
	network := "unix"
	if h := os.Getenv("DOCKER_HOST"); h != "" {
		scheme, addr, ok := strings.Cut(h, "://")
		if !ok || scheme != "unix" && scheme != "tcp" {
			return nil, fmt.Errorf("DOCKER_HOST %q: the demo knows unix:// and tcp:// only", h)
		}
		network, socket = scheme, addr
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, socket)
	}
	return &engine{&http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

// call makes one request and returns the body of the answer.
func (e *engine) call(ctx context.Context, method, path string, query url.Values, body io.Reader) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Docker Engine: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	return b, err
}

// build builds the image from a Dockerfile and one program.
func (e *engine) build(ctx context.Context, dockerfile, bin, tag, version string) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, path := range map[string]string{"Dockerfile": dockerfile, "app": bin} {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(b))}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	args, err := json.Marshal(map[string]string{"VERSION": version})
	if err != nil {
		return err
	}
	b, err := e.call(ctx, http.MethodPost, "/build", url.Values{"t": {tag}, "buildargs": {string(args)}, "forcerm": {"1"}}, &buf)
	if err == nil && bytes.Contains(b, []byte(`"errorDetail"`)) {
		err = errors.New(string(bytes.TrimSpace(b)))
	}
	if err != nil {
		return fmt.Errorf("build image %q: %w", tag, err)
	}
	return nil
}

func (e *engine) tag(ctx context.Context, image, repo, tag string) error {
	_, err := e.call(ctx, http.MethodPost, "/images/"+image+"/tag", url.Values{"repo": {repo}, "tag": {tag}}, nil)
	return err
}

// containers lists the demo's containers.
func (e *engine) containers(ctx context.Context, all string) ([]string, error) {
	b, err := e.call(ctx, http.MethodGet, "/containers/json", url.Values{
		"all": {all}, "filters": {`{"label":["dev.gantryd.project=` + projectName + `"]}`},
	}, nil)
	if err != nil {
		return nil, err
	}
	var list []struct{ Id string }
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(list))
	for _, c := range list {
		ids = append(ids, c.Id)
	}
	return ids, nil
}

func (e *engine) running(ctx context.Context) (int, error) {
	ids, err := e.containers(ctx, "0")
	return len(ids), err
}

// cleanUp removes what the demo made: its containers and images. A container that the daemon is removing at the same
// time need not be removed once more.
func (e *engine) cleanUp(ctx context.Context, out io.Writer) {
	ids, err := e.containers(ctx, "1")
	for _, id := range ids {
		if _, rmErr := e.call(ctx, http.MethodDelete, "/containers/"+id, url.Values{"force": {"1"}}, nil); rmErr != nil && !e.vanishes(ctx, id) {
			err = rmErr
		}
	}
	for _, tag := range []string{"latest", "v1", "v2"} {
		_, _ = e.call(ctx, http.MethodDelete, "/images/"+repo+":"+tag, url.Values{"force": {"1"}}, nil) // may not have come that far
	}
	if err != nil {
		fmt.Fprintf(out, "clean up: %v\n", err)
	}
}

// vanishes reports whether a container is gone within a few seconds.
func (e *engine) vanishes(ctx context.Context, id string) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 50 {
		if ids, err := e.containers(ctx, "1"); err == nil && !slices.Contains(ids, id) {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return false
}
