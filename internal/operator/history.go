package operator

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// History reads the history of a component, which must have one.
func History(ctx context.Context, c *etcdstate.Client, project, name string) ([]component.Past, error) {
	entries, err := c.History(ctx, project, name)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return entries, nil
	}
	p, err := Read(ctx, c, project)
	if err != nil {
		return nil, err
	}
	if _, err := Pick(Names(p), []string{name}); err != nil {
		return nil, err
	}
	return nil, mistake(NotFound, "component %s has no history: nothing was asked for yet", name).hint("gantryd update %s -c %s", project, name)
}

// Releases are the rows of entries, which come newest first.
func Releases(entries []component.Past) []api.Release {
	out := make([]api.Release, 0, len(entries))
	for i, e := range entries {
		d := e.Desired
		row := api.Release{
			Generation: e.Generation, Outcome: e.Outcome, Command: d.Command, Source: d.Source, Together: d.Together, By: d.By, From: d.From,
			At: d.At, Reason: d.Reason, ImageID: d.ImageID, Image: d.Image.Ref, Changes: []component.Change{}, Rollout: e.Rollout,
		}
		if i+1 < len(entries) && entries[i+1].Desired.Spec != nil && d.Spec != nil {
			row.Changes = append(row.Changes, component.Changes(entries[i+1].Desired.Release(), d.Release())...)
		}
		out = append(out, row)
	}
	return out
}

// Entry is the one of a generation.
func Entry(entries []component.Past, project, name string, generation int64) (component.Past, error) {
	i := slices.IndexFunc(entries, func(e component.Past) bool { return e.Generation == generation })
	if i < 0 {
		return component.Past{}, mistake(NotFound, "component %s has no generation %d in its history", name, generation).
			hint("'gantryd history %s -c %s' lists them", project, name)
	}
	if e := entries[i]; e.Desired.Spec != nil {
		return e, nil
	}
	return component.Past{}, mistake(Refused, "generation %d of %s was kept without its configuration", generation, name)
}

// target is the past release that a rollback goes to.
func target(entries []component.Past, project, name string, to int64) (component.Past, error) {
	now := entries[0]
	if to == 0 {
		p, ok := component.BackFrom(now.Desired, entries[1:])
		if !ok {
			return p, mistake(Refused, "there is no release of %s to go back to: none before generation %d that differs from it ended done", name, now.Generation).
				hint("'gantryd history %s -c %s' lists what there was; --to takes any of it", project, name)
		}
		return p, nil
	}
	e, err := Entry(entries, project, name, to)
	switch {
	case err != nil:
		return e, err
	case e.Desired.ImageID == "":
		return e, mistake(Refused, "generation %d of %s names no image ID", to, name)
	case to == now.Generation && now.Desired.Status == component.StatusReady:
		return e, mistake(Refused, "generation %d of %s is what is asked for now", to, name)
	}
	return e, nil
}

// Rollback makes the release of generation to, or of the newest good one when it is 0, what all hosts are to
// run. The release that it returns has its Source.
func Rollback(ctx context.Context, c *etcdstate.Client, project, name string, to int64, who Who, reason string) (Release, error) {
	entries, err := History(ctx, c, project, name)
	if err != nil {
		return Release{}, err
	}
	past, err := target(entries, project, name, to)
	if err != nil {
		return Release{}, err
	}
	p, err := Read(ctx, c, project)
	if err != nil {
		return Release{}, err
	}
	d := past.Back(Spec(p, name))
	d.Operation, d.By, d.At, d.From, d.Reason = rand.Text(), who.By, time.Now().UTC(), who.From, reason
	gen, err := c.SetDesired(ctx, project, name, d, etcdstate.IfGeneration(entries[0].Generation))
	if err != nil {
		return Release{}, fmt.Errorf("roll %q back: %w", name, err)
	}
	return Release{Name: name, Desired: d, Generation: gen}, nil
}
