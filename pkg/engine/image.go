package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// PullPolicy says when Resolve pulls.
type PullPolicy string

// The policies.
const (
	PullMissing PullPolicy = "missing" // when the image is not on the host; the default
	PullAlways  PullPolicy = "always"
	PullNever   PullPolicy = "never"
)

// ImageMismatchError means that a pull brought another image than the one wanted: this host cannot
// run what the others run.
type ImageMismatchError struct {
	Name string // what was pulled
	Want string // image IDs
	Got  string
}

// Error has both IDs in full.
func (e *ImageMismatchError) Error() string {
	return fmt.Sprintf("image %q is %s on this host, wanted %s", e.Name, e.Got, e.Want)
}

// ImagePresent reports whether the image with this ID is on the host, under whatever name.
func (e *Engine) ImagePresent(ctx context.Context, imageID string) (bool, error) {
	defer failpoint.Around(failpoint.ImagePresent)()
	if imageID == "" {
		return false, errors.New("find image: no image ID given")
	}
	got, err := e.imageByID(ctx, imageID)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && sameID(imageID, got.ID), err
}

// sameID compares image IDs; the name of the hash may be left out, as very old Engines do.
func sameID(a, b string) bool {
	const hash = "sha256:"
	return strings.TrimPrefix(a, hash) == strings.TrimPrefix(b, hash)
}

// Resolve says which image ref names, by content: its ID and, when it came from a registry or went
// to one, its digest there. progress may be nil.
func (e *Engine) Resolve(ctx context.Context, ref string, when PullPolicy, progress func(string)) (component.Image, string, error) {
	named, err := parseRef(ref)
	if err != nil {
		return component.Image{}, "", err
	}
	var digest string
	switch when {
	case PullAlways:
		if digest, err = e.pullFor(ctx, named, progress); err != nil {
			return component.Image{}, "", err
		}
	case PullMissing, PullNever, "":
	default:
		return component.Image{}, "", fmt.Errorf("resolve image %q: %q is not a pull policy", ref, when)
	}
	got, err := e.inspectImage(ctx, ref)
	if errdefs.IsNotFound(err) && (when == PullMissing || when == "") {
		if digest, err = e.pullFor(ctx, named, progress); err != nil {
			return component.Image{}, "", err
		}
		got, err = e.inspectImage(ctx, ref)
	}
	if err != nil {
		return component.Image{}, "", fmt.Errorf("resolve image: %w", err)
	}
	if digest == "" || !hasDigest(got.RepoDigests, digest) {
		digest = digestOf(named, got.RepoDigests)
	}
	return component.Image{Ref: ref, Digest: digest}, got.ID, nil
}

// pullFor pulls for an operator, and fails in the original's words.
func (e *Engine) pullFor(ctx context.Context, named reference.Named, progress func(string)) (digest string, err error) {
	digest, err = e.pull(ctx, reference.FamiliarString(named), named, progress)
	if err != nil {
		return "", fmt.Errorf("Could not pull repo %s: %w", reference.FamiliarName(named), err) //nolint:staticcheck // the original's words
	}
	return digest, nil
}

// parseRef parses repo, repo:tag or repo@digest as people write it.
func parseRef(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("parse image reference %q: %w", ref, err)
	}
	return reference.TagNameOnly(named), nil
}

// digestOf is the digest that the image has in the repository of named, or "".
func digestOf(named reference.Named, repoDigests []string) string {
	for _, s := range repoDigests {
		r, err := reference.ParseNormalizedNamed(s)
		if err != nil || r.Name() != named.Name() {
			continue
		}
		if d, ok := r.(reference.Digested); ok {
			return d.Digest().String()
		}
	}
	return ""
}

func hasDigest(repoDigests []string, digest string) bool {
	for _, s := range repoDigests {
		if strings.HasSuffix(s, "@"+digest) {
			return true
		}
	}
	return false
}

// RemoveImage removes an image that no tag names and no container uses, running or not. Anything
// else is left alone, which is no error.
func (e *Engine) RemoveImage(ctx context.Context, imageID string) error {
	defer failpoint.Around(failpoint.RemoveImage)()
	img, err := e.inspectImage(ctx, imageID)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove image: %w", err)
	}
	for _, tag := range img.RepoTags {
		if !strings.HasPrefix(tag, "<none>") {
			return nil
		}
	}
	defer e.recent.forgetImages()
	err = e.call(ctx, e.limits.change, func(ctx context.Context, cli *client.Client) error {
		used, err := cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("ancestor", img.ID))})
		if err != nil || len(used) > 0 {
			return err
		}
		return removeImage(ctx, cli, img)
	})
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) { // a conflict: somebody uses it after all
		return nil
	}
	return fmt.Errorf("remove image %q: %w", component.Short(imageID), err)
}

// removeImage removes the image's digests one by one, for the Engine refuses to remove one that
// several repositories name unless forced; the last one takes the image with it.
func removeImage(ctx context.Context, cli *client.Client, img image.InspectResponse) error {
	var names []string
	for _, d := range img.RepoDigests {
		if !strings.HasPrefix(d, "<none>") {
			names = append(names, d)
		}
	}
	if len(names) < 2 {
		names = []string{img.ID}
	}
	for _, n := range names {
		if _, err := cli.ImageRemove(ctx, n, image.RemoveOptions{PruneChildren: true}); err != nil {
			return err
		}
	}
	return nil
}
