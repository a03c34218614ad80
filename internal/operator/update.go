package operator

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
	"github.com/gantryd/gantryd/pkg/etcdstate"
)

// A Who is who asks for something, and from where, as history and status show it.
type Who struct{ By, From string }

// An Update says what is to be rolled out, and how.
type Update struct {
	Components   []string // in the way of -c: each for itself
	All          bool     // all components that change, one after another
	Together     []string // these as one release
	Reason       string
	Restart      bool     // new containers even for the same release
	Policy       []string // overrides such as rollout.maxParallel=2, for this update
	IfGeneration *int64   // of the one component: only when this is asked for still
}

// A Release is one component's part of an update or a rollback.
type Release struct {
	Name       string
	Desired    component.Desired
	Generation int64 // of what was written
}

// Images says which image a reference names, by content.
type Images func(ctx context.Context, ref string) (component.Image, string, error)

// Check makes sure that components are named in one of the ways there are.
func (u Update) Check() error {
	switch {
	case u.IfGeneration != nil && len(distinct(u.Components)) != 1:
		return mistake(Invalid, "--if-revision is about one component: name it with -c")
	case len(u.Together) == 0 && u.All == (len(u.Components) > 0):
		return mistake(Invalid, "name the components with -c, or give --all")
	case len(u.Together) == 0:
		return nil
	case u.All || len(u.Components) > 0:
		return mistake(Invalid, "--together names the components: leave out -c and --all")
	case len(distinct(u.Together)) < 2:
		return mistake(Invalid, "--together takes two components or more, such as --together api,web")
	}
	return nil
}

// distinct are the names, each once.
func distinct(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// which are the components that the update is about.
func (u Update) which(p etcdstate.Project) ([]string, error) {
	if len(u.Together) > 0 {
		if _, err := Pick(Names(p), u.Together); err != nil {
			return nil, err
		}
		return slices.DeleteFunc(Names(p), func(n string) bool { return !slices.Contains(u.Together, n) }), nil
	}
	return Pick(Names(p), u.Components)
}

// Resolve works the update out: the image of each component is pinned by its content, and all of them are in
// the order in which they are rolled out. Of all components those that would not change are the same. Nothing
// is stored.
func Resolve(ctx context.Context, p etcdstate.Project, u Update, who Who, images Images) (rs []Release, same []string, err error) {
	which, err := u.which(p)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range which {
		r, err := resolve(ctx, p, n, u, who, images)
		if err != nil {
			return nil, nil, err
		}
		rs = append(rs, r)
	}
	return lineUp(p, rs, u)
}

func resolve(ctx context.Context, p etcdstate.Project, name string, u Update, who Who, images Images) (Release, error) {
	s := Spec(p, name)
	if s == nil {
		return Release{}, mistake(NotFound, "Unknown component named %s", name).hint("it has a state, but is not in the project's configuration")
	}
	policed, err := policed(*s, u.Policy)
	if err != nil {
		return Release{}, err
	}
	img, id, err := images(ctx, s.Ref())
	if err != nil {
		return Release{}, err
	}
	d := component.Desired{
		Status: component.StatusReady, ImageID: id, Image: img, Spec: &policed, Operation: rand.Text(),
		By: who.By, At: time.Now().UTC(), Reason: u.Reason, Command: "update", From: who.From,
	}
	if u.Restart {
		d.Restart = d.Operation
	} else {
		d.Restart = p.Components[name].Desired.Restart // the same containers count as the same
	}
	return Release{Name: name, Desired: d}, nil
}

// policed is a copy of s with what the overrides say of its rollout.
func policed(s component.Spec, overrides []string) (component.Spec, error) {
	if len(overrides) == 0 {
		return s, nil
	}
	for _, o := range overrides {
		if key := config.OverrideKey(o); key != "rollout" { // else who may deploy could say what runs as root
			return s, mistake(Invalid, "a policy is about rollout, such as rollout.maxParallel=2, and not about %q", key)
		}
	}
	s, err := config.Override(s, overrides)
	if err == nil {
		err = config.Validate(component.Project{Components: []component.Spec{s}})
	}
	if err != nil {
		return s, mistake(Invalid, "%w", err)
	}
	return s, nil
}

// lineUp puts releases that are asked for at once in the order of their links, each after the one before.
// Of all components, those that an update would not change are left out.
func lineUp(p etcdstate.Project, rs []Release, u Update) (ordered []Release, same []string, err error) {
	if !u.All && len(u.Together) == 0 {
		return rs, nil, nil
	}
	var specs []component.Spec
	for _, r := range rs {
		if u.All && PlanFor(r, p.Components[r.Name], p).Change == "none" {
			same = append(same, r.Name)
			continue
		}
		specs = append(specs, *r.Desired.Spec)
	}
	order, err := component.InLinkOrder(specs)
	if err != nil {
		return nil, nil, mistake(Invalid, "%w", err)
	}
	op, before := rand.Text(), ""
	for _, name := range order {
		r := rs[slices.IndexFunc(rs, func(r Release) bool { return r.Name == name })]
		r.Desired.Operation, r.Desired.Follows = op, before
		if u.Restart {
			r.Desired.Restart = op
		}
		if len(u.Together) > 0 {
			r.Desired.Together = order
		}
		ordered, before = append(ordered, r), name
	}
	return ordered, same, nil
}

// Write makes the releases what is asked for, and fills their generations in. All components, and those that
// are together, are written in one transaction; wrote, which may be nil, is called for each that is stored.
func Write(ctx context.Context, c *etcdstate.Client, project string, u Update, rs []Release, wrote func(Release)) error {
	if wrote == nil {
		wrote = func(Release) {}
	}
	if len(rs) > 1 && (u.All || len(u.Together) > 0) {
		if err := writeAll(ctx, c, project, rs); err != nil {
			return err
		}
		for _, r := range rs {
			wrote(r)
		}
		return nil
	}
	for i := range rs {
		r := &rs[i]
		var opts []etcdstate.SetOption
		if u.IfGeneration != nil {
			opts = append(opts, etcdstate.IfGeneration(*u.IfGeneration))
		}
		gen, err := c.SetDesired(ctx, project, r.Name, r.Desired, opts...)
		if err != nil {
			return fmt.Errorf("update %q: %w", r.Name, err)
		}
		r.Generation = gen
		wrote(*r)
	}
	return nil
}

// writeAll writes several releases in one transaction; nothing is left for anybody to do after it.
func writeAll(ctx context.Context, c *etcdstate.Client, project string, rs []Release) error {
	writes, names := make([]etcdstate.Write, 0, len(rs)), make([]string, 0, len(rs))
	for _, r := range rs {
		writes, names = append(writes, etcdstate.Write{Component: r.Name, Desired: r.Desired}), append(names, r.Name)
	}
	gen, err := c.SetTogether(ctx, project, writes)
	if err != nil {
		return fmt.Errorf("update %s: %w", strings.Join(names, ", "), err)
	}
	for i := range rs {
		rs[i].Generation = gen
	}
	return nil
}

// End asks for a component to be down: stopped, or killed.
func End(ctx context.Context, c *etcdstate.Client, project, name string, status component.Status, command string, who Who) (int64, error) {
	d := component.Desired{Status: status, Operation: rand.Text(), By: who.By, At: time.Now().UTC(), Command: command, From: who.From}
	gen, err := c.SetDesired(ctx, project, name, d)
	if err != nil {
		return 0, fmt.Errorf("mark %q as %s: %w", name, status, err)
	}
	return gen, nil
}
