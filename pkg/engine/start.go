package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// Start creates a container with our labels and starts it. The image must be on the host: Start
// does not pull. When it fails, the container is removed again as far as the Engine answers.
func (e *Engine) Start(ctx context.Context, r component.StartRequest) (string, error) {
	img, err := e.imageOf(ctx, r.Release)
	if err != nil {
		return "", fmt.Errorf("start component %q: %w", r.Component, err)
	}
	s := r.Release.Spec
	if len(argv(r)) == 0 && len(s.Entrypoint) == 0 && !img.hasCommand {
		return "", fmt.Errorf("No command defined in either gantry config or docker image for component %s", r.Component) //nolint:staticcheck // the original's words
	}
	p, err := e.plan(r, img.id)
	if err != nil {
		return "", fmt.Errorf("start component %q: %w", r.Component, err)
	}
	id, err := e.create(ctx, p, img)
	if err != nil {
		return "", fmt.Errorf("create container %q: %w", p.name, err)
	}
	if err := e.launch(ctx, id, p); err != nil {
		e.discard(ctx, id, p)
		return "", fmt.Errorf("start container %q: %w", p.name, err)
	}
	return id, nil
}

// A startImage is the image of a new container.
type startImage struct {
	id         string
	name       string // repo:tag when that is this image now, so that people see a name; else the ID
	hasCommand bool
}

func (e *Engine) imageOf(ctx context.Context, rel component.Release) (startImage, error) {
	ref := rel.Image.Ref
	if ref == "" && rel.Spec.Repo != "" {
		ref = rel.Spec.Ref()
	}
	want, inspect := rel.ImageID, e.imageByID
	if want == "" {
		want, inspect = ref, e.inspectImage // what a name stands for is asked each time
	}
	got, err := inspect(ctx, want)
	if errdefs.IsNotFound(err) {
		return startImage{}, fmt.Errorf("image %q (%s) is not on this host: %w", ref, component.Short(want), err)
	}
	if err != nil {
		return startImage{}, err
	}
	out := startImage{id: got.ID, name: got.ID}
	out.hasCommand = got.Config != nil && len(got.Config.Cmd)+len(got.Config.Entrypoint) > 0
	if named, err := parseRef(ref); err == nil && slices.Contains(got.RepoTags, reference.FamiliarString(named)) {
		out.name = ref
	}
	return out, nil
}

// inspectImage looks an image up by ID, reference or digest.
func (e *Engine) inspectImage(ctx context.Context, name string) (image.InspectResponse, error) {
	var out image.InspectResponse
	err := e.call(ctx, e.limits.query, func(ctx context.Context, cli *client.Client) (err error) {
		out, err = cli.ImageInspect(ctx, name)
		return err
	})
	if err != nil {
		return out, fmt.Errorf("inspect image %q: %w", name, err)
	}
	return out, nil
}

// A plan is everything about a container to create.
type plan struct {
	name  string
	links []link
	createOptions
}

func (e *Engine) plan(r component.StartRequest, imageID string) (plan, error) {
	p := plan{name: containerName(e.project, r)}
	binds, links, err := bindings(r.Release.Spec.Bindings, p.name)
	if err != nil {
		return p, err
	}
	if len(links) > 0 && !e.endpoint.local() {
		return p, fmt.Errorf("binding %q: %s needs Docker Engine on this machine, not at %q", links[0].target, placeholder, e.endpoint.host)
	}
	p.links = links
	labels, err := e.labels(r, paths(links), time.Now())
	if err != nil {
		return p, err
	}
	p.createOptions, err = options(r, imageID, labels, binds)
	return p, err
}

// containerName is unique, and says to people what the container is.
func containerName(project string, r component.StartRequest) string {
	clean := func(s string) string {
		s = regexp.MustCompile(`[^a-zA-Z0-9_.-]+`).ReplaceAllString(s, "-")
		return s[:min(len(s), 60)]
	}
	parts := []string{"gantryd", clean(project), clean(r.Component)}
	if r.Task {
		parts = append(parts, "predeploy")
	}
	return strings.Join(append(parts, strconv.FormatInt(r.Release.Generation, 10), strings.ToLower(rand.Text()[:6])), "-")
}

// create makes the container by the image's name, and by its ID when that name is another image's
// by now.
func (e *Engine) create(ctx context.Context, p plan, img startImage) (string, error) {
	p.config.Image = img.name
	id, err := e.createOnce(ctx, p)
	if img.name == img.id {
		return id, err
	}
	if err == nil {
		var c container.InspectResponse
		if c, err = e.inspect(ctx, id); err == nil && c.Image == img.id {
			return id, nil
		}
		e.discard(ctx, id, p)
		if err != nil {
			return "", err
		}
	} else if !errdefs.IsNotFound(err) {
		return "", err
	}
	p.config.Image = img.id
	return e.createOnce(ctx, p)
}

// createOnce creates the container. The Engine goes on with that when its client gives up, and what
// it makes then cannot be removed before it is there; so the answer is awaited a little longer than
// the caller does.
func (e *Engine) createOnce(ctx context.Context, p plan) (string, error) {
	defer failpoint.Around(failpoint.Create)()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	var resp container.CreateResponse
	longer, cancel := outlive(ctx, e.limits.query)
	defer cancel()
	err := e.change(longer, e.limits.change, func(ctx context.Context, cli *client.Client) (err error) {
		resp, err = cli.ContainerCreate(ctx, p.config, p.host, p.network, nil, p.name)
		return err
	})
	if err != nil {
		if errors.Is(err, ErrUnreachable) || ctx.Err() != nil { // it may be there all the same
			e.discard(ctx, p.name, p)
		}
		return "", err
	}
	if ctx.Err() != nil {
		e.discard(ctx, resp.ID, p)
		return "", context.Cause(ctx)
	}
	for _, w := range resp.Warnings {
		e.log.Warn("engine warns about a container", "container", component.Short(resp.ID), "warning", w)
	}
	return resp.ID, nil
}

// outlive is a context that ends some time after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(by, func() { cancel(context.Cause(ctx)) })
	})
	return longer, func() {
		stop()
		cancel(context.Canceled)
	}
}

// launch does what remains between create and a running process.
func (e *Engine) launch(ctx context.Context, id string, p plan) error {
	defer failpoint.Around(failpoint.Start)()
	for _, n := range p.more {
		err := e.change(ctx, e.limits.change, func(ctx context.Context, cli *client.Client) error {
			return cli.NetworkConnect(ctx, n, id, nil)
		})
		if err != nil {
			return fmt.Errorf("connect to network %q: %w", n, err)
		}
	}
	if err := makeLinks(p.links, id); err != nil {
		return err
	}
	return e.change(ctx, e.limits.change, func(ctx context.Context, cli *client.Client) error {
		return cli.ContainerStart(ctx, id, container.StartOptions{})
	})
}

// discard removes what a failed start left, by ID or name, also when ctx is over.
func (e *Engine) discard(ctx context.Context, id string, p plan) {
	ctx = context.WithoutCancel(ctx)
	err := e.change(ctx, e.limits.change, func(ctx context.Context, cli *client.Client) error {
		return cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	})
	if err != nil && !errdefs.IsNotFound(err) {
		e.log.Warn("container of a failed start left behind", "container", p.name, "err", err)
		return
	}
	removeLinks(paths(p.links))
}
