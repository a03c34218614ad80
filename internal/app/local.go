package app

import (
	"context"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/localstate"
)

// What follows is the state of gantry's agent, as commands use it. A write waits for an upgrade that is
// under way, and is refused with ErrHanded when it succeeded.

// PutProject stores the components of a project.
func (d *Daemon) PutProject(ctx context.Context, p component.Project) error {
	return d.write(func(s *localstate.Store) error { return s.PutProject(ctx, p) })
}

// SetDesired stores what is asked of a component.
func (d *Daemon) SetDesired(ctx context.Context, name string, want component.Desired) (generation int64, err error) {
	err = d.write(func(s *localstate.Store) error {
		generation, err = s.SetDesired(ctx, name, want)
		return err
	})
	return generation, err
}

func (d *Daemon) write(f func(*localstate.Store) error) error {
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.isHanded() {
		return ErrHanded
	}
	return f(d.current().local)
}

// View is what is known of a component.
func (d *Daemon) View(name string) component.View { return d.current().store().View(name) }

// Status is what this host sees of a component.
func (d *Daemon) Status(name string) component.HostStatus { return d.current().supervisor.Status(name) }

// Handed is closed when another process has taken over.
func (d *Daemon) Handed() <-chan struct{} { return d.handed }
