package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/docker/go-units"

	"github.com/gantryd/gantryd/internal/failpoint"
	"github.com/gantryd/gantryd/pkg/component"
)

// Pull fetches the image by digest when it has one, else by reference, and compares what came with
// imageID (unless that is empty): an *ImageMismatchError when it is something else. Names on the
// host stay as they are after a pull by digest. progress may be nil; it is called about once a
// second. Pull does not try again by itself, beyond what the Engine does.
func (e *Engine) Pull(ctx context.Context, img component.Image, imageID string, progress func(string)) error {
	defer failpoint.Around(failpoint.Pull)()
	if img.Ref == "" {
		return fmt.Errorf("pull image %s: nobody said from where", component.Short(imageID))
	}
	named, err := parseRef(img.Ref)
	if err != nil {
		return err
	}
	name := reference.FamiliarString(named)
	if img.Digest != "" {
		name = reference.FamiliarName(named) + "@" + img.Digest
		if named, err = parseRef(name); err != nil {
			return err
		}
	}
	if _, err := e.pull(ctx, name, named, progress); err != nil {
		return err
	}
	got, err := e.inspectImage(ctx, name)
	if err != nil {
		return fmt.Errorf("look at what was pulled: %w", err)
	}
	if imageID != "" && !sameID(got.ID, imageID) {
		return &ImageMismatchError{Name: name, Want: imageID, Got: got.ID}
	}
	return nil
}

// pull fetches what named says and returns its digest, if the Engine told it. The last line of
// progress is the Engine's own, which says what it named the image.
func (e *Engine) pull(ctx context.Context, name string, named reference.Named, progress func(string)) (digest string, err error) {
	auth, err := e.registryAuth(ctx, reference.Domain(named))
	if err != nil {
		return "", fmt.Errorf("pull image %q: %w", name, err)
	}
	p := newProgress(name, e.limits.progress, progress)
	late := fmt.Errorf("not done within %s", e.limits.pull)
	err = e.callWithin(ctx, e.limits.pull, late, func(ctx context.Context, cli *client.Client) error {
		stalled := fmt.Errorf("no progress within %s", e.limits.pullIdle)
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		idle := time.AfterFunc(e.limits.pullIdle, func() { cancel(stalled) })
		defer idle.Stop()
		err := p.follow(ctx, cli, named, auth, func() { idle.Reset(e.limits.pullIdle) })
		if errors.Is(context.Cause(ctx), stalled) {
			return stalled
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("pull image %q: %w", name, err)
	}
	return p.digest, nil
}

// follow pulls and reads the Engine's messages to their end; alive is called for each sign of
// progress.
func (p *pullProgress) follow(ctx context.Context, cli *client.Client, named reference.Named, auth string, alive func()) error {
	r, err := cli.ImagePull(ctx, named.String(), image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return err
	}
	defer r.Close()
	p.start()
	dec := json.NewDecoder(r)
	for {
		var m pullMessage
		err := dec.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			p.end()
			return nil
		case err != nil:
			return fmt.Errorf("read progress: %w", err)
		case m.Error != "":
			return errors.New(cleanLine(m.Error))
		}
		if p.see(m) {
			alive()
		}
	}
}

// A pullMessage is one message of a pull.
type pullMessage struct {
	ID       string `json:"id"` // of a layer
	Status   string `json:"status"`
	Error    string `json:"error"`
	Progress struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
}

// pullProgress turns many messages into few lines.
type pullProgress struct {
	name   string
	every  time.Duration
	report func(string)

	last   time.Time
	layers map[string]*layer
	result string // the Engine's last word
	digest string
}

type layer struct {
	status         string
	current, total int64 // bytes downloaded
	done           bool
}

func newProgress(name string, every time.Duration, report func(string)) *pullProgress {
	if report == nil {
		report = func(string) {}
	}
	return &pullProgress{name: name, every: every, report: report, layers: map[string]*layer{}}
}

func (p *pullProgress) start() {
	p.last = time.Now()
	p.report("pulling " + p.name)
}

func (p *pullProgress) end() {
	text := "pulled " + p.name
	if p.result != "" {
		text += ": " + p.result
	}
	p.report(text)
}

// see takes a message in and reports whether the pull got further by it.
func (p *pullProgress) see(m pullMessage) bool {
	if d, ok := strings.CutPrefix(m.Status, "Digest: "); ok {
		p.digest = d
		return true
	}
	if s, ok := strings.CutPrefix(m.Status, "Status: "); ok {
		p.result = cleanLine(s)
		return true
	}
	l := p.layers[m.ID]
	if l == nil {
		if m.Status != "Pulling fs layer" && m.Status != "Already exists" {
			return true // the heading, whose ID is the tag
		}
		l = &layer{}
		p.layers[m.ID] = l
	}
	moved := m.Status != l.status || m.Progress.Current != l.current
	if strings.HasPrefix(m.Status, "Retrying in") {
		moved = false // the Engine counts the seconds down
	}
	l.status = m.Status
	switch m.Status {
	case "Downloading":
		l.current, l.total = m.Progress.Current, m.Progress.Total
	case "Download complete", "Verifying Checksum":
		l.current = l.total
	case "Pull complete", "Already exists":
		l.done = true
	default: // Extracting counts the same bytes again
		return moved || m.Progress.Current > 0
	}
	p.tell()
	return moved
}

// tell reports where the pull is, unless it did just now.
func (p *pullProgress) tell() {
	if time.Since(p.last) < p.every {
		return
	}
	p.last = time.Now()
	var done int
	var current, total int64
	for _, l := range p.layers {
		if l.done {
			done++
		}
		current += l.current
		total += l.total
	}
	text := fmt.Sprintf("pulling %s: %d of %d layers", p.name, done, len(p.layers))
	if total > 0 {
		text += fmt.Sprintf(", %s of %s", units.HumanSize(float64(current)), units.HumanSize(float64(total)))
	}
	p.report(text)
}
