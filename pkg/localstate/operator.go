package localstate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

var errNoName = errors.New("component has no name")

// SetDesired writes what is asked of a component and returns the generation, which is greater than
// that of any write before, also when nothing changed. component.StatusReady replaces image, spec
// and restart; component.StatusStopped and component.StatusKilled leave those as they are. At is
// now when it is zero. A write whose Operation is that of the current state has happened already:
// its generation is returned, so a write that ended in an error can be repeated.
func (s *Store) SetDesired(ctx context.Context, name string, d component.Desired) (generation int64, err error) {
	if d.At.IsZero() {
		d.At = time.Now().UTC()
	}
	err = s.update(ctx, func(dr *draft) error {
		c := dr.data.Components[name]
		raw, err := c.desire(name, d)
		if err != nil {
			return err
		}
		if raw == nil {
			generation = c.Generation
			return nil
		}
		c.Desired, c.Generation = raw, dr.revision
		generation = dr.revision
		dr.put(name, c)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("set desired state of component %q: %w", name, err)
	}
	return generation, nil
}

// desire is the value of the desired state that d makes of the current one; nil when it is that
// already.
func (c componentData) desire(name string, d component.Desired) (json.RawMessage, error) {
	if name == "" {
		return nil, errNoName
	}
	var cur component.Desired
	curErr := decode(c.Desired, &cur)
	if curErr == nil && d.Operation != "" && d.Operation == cur.Operation {
		return nil, nil
	}
	cur.Generation = c.Generation
	var r component.Rollout
	if curErr == nil && decode(c.Rollout, &r) == nil {
		d = d.After(cur, r)
	}
	switch d.Status {
	case component.StatusReady:
		return json.Marshal(d)
	case component.StatusStopped, component.StatusKilled:
	default:
		return nil, fmt.Errorf("%q is not a status", d.Status)
	}
	if curErr != nil {
		return nil, fmt.Errorf("read the current one: %w", curErr)
	}
	d.ImageID, d.Image, d.Spec, d.Restart = cur.ImageID, cur.Image, cur.Spec, cur.Restart
	fresh, err := json.Marshal(d)
	if err != nil || c.Desired == nil {
		return fresh, err
	}
	known, err := json.Marshal(cur)
	if err != nil {
		return nil, err
	}
	return carry(c.Desired, known, fresh, keep{}), nil
}

// PutProject replaces the specs of all components. One that is left out keeps its desired state.
func (s *Store) PutProject(ctx context.Context, p component.Project) error {
	configs, err := encodeSpecs(p)
	if err != nil {
		return fmt.Errorf("write project: %w", err)
	}
	err = s.update(ctx, func(d *draft) error {
		for name, c := range d.data.Components {
			if _, still := configs[name]; !still && c.Config != nil {
				c.Config = nil
				d.put(name, c)
			}
		}
		for name, b := range configs {
			d.putConfig(name, b)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write project: %w", err)
	}
	return nil
}

// PutSpec replaces the spec of one component, for who is told one component at a time.
func (s *Store) PutSpec(ctx context.Context, spec component.Spec) error {
	configs, err := encodeSpecs(component.Project{Components: []component.Spec{spec}})
	if err == nil {
		err = s.update(ctx, func(d *draft) error {
			d.putConfig(spec.Name, configs[spec.Name])
			return nil
		})
	}
	return named("write spec of", spec.Name, err)
}

func encodeSpecs(p component.Project) (map[string]json.RawMessage, error) {
	configs := make(map[string]json.RawMessage, len(p.Components))
	for i, spec := range p.Components {
		if spec.Name == "" {
			return nil, fmt.Errorf("components[%d]: %w", i, errNoName)
		}
		if _, twice := configs[spec.Name]; twice {
			return nil, fmt.Errorf("components[%d]: a second component %q", i, spec.Name)
		}
		b, err := json.Marshal(spec)
		if err != nil {
			return nil, fmt.Errorf("components[%d]: %w", i, err)
		}
		configs[spec.Name] = b
	}
	return configs, nil
}

func (d *draft) putConfig(name string, config json.RawMessage) {
	c := d.data.Components[name]
	if !bytes.Equal(c.Config, config) {
		c.Config = config
		d.put(name, c)
	}
}

// Adopt records an operator's word that this store's data counts, which ends the distrust of a
// host that knew other or newer data.
func (s *Store) Adopt(ctx context.Context, a component.Adoption) error {
	b, err := json.Marshal(a)
	if err == nil {
		err = s.update(ctx, func(d *draft) error {
			if !bytes.Equal(d.data.Adoption, b) {
				d.data.Adoption, d.durable, d.changed = b, true, []string{""}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("write adoption: %w", err)
	}
	return nil
}

// Status is what this host published last about the component; zero when nothing since the start.
func (s *Store) Status(name string) component.HostStatus {
	return s.View(name).Hosts[s.host]
}
