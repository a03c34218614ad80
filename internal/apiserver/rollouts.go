package apiserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gantryd/gantryd/internal/operator"
	"github.com/gantryd/gantryd/pkg/api"
	"github.com/gantryd/gantryd/pkg/component"
)

const (
	componentPath = "/v2/projects/{project}/components/{component}"
	rolloutsPath  = "/v2/projects/{project}/rollouts"
)

func (s *Server) componentRoutes(a huma.API) {
	add(s, a, route{"list-components", http.MethodGet, "/v2/projects/{project}/components", "List the components with their status and image", Viewer, 0},
		func(ctx context.Context, w *work, in *InProject) (*reply[list[api.Component]], error) {
			p, err := operator.Read(ctx, w.etcd, in.Project)
			if err != nil {
				return nil, err
			}
			var all []api.Component
			for _, n := range operator.Names(p) {
				all = append(all, operator.Component(n, p.Components[n]))
			}
			return items(all), nil
		})
	add(s, a, route{"get-component", http.MethodGet, componentPath, "Tell how a component stands, and what each host says about it", Viewer, 0},
		func(ctx context.Context, w *work, in *InComponent) (*reply[api.ComponentStatus], error) {
			v, err := view(ctx, w, in)
			return &reply[api.ComponentStatus]{operator.ComponentStatus(in.Component, v)}, err
		})
	add(s, a, route{"list-releases", http.MethodGet, componentPath + "/releases", "List what was asked for and how it ended, the newest first", Viewer, 0},
		func(ctx context.Context, w *work, in *InComponent) (*reply[list[api.Release]], error) {
			entries, err := operator.History(ctx, w.etcd, in.Project, in.Component)
			if err != nil {
				return nil, err
			}
			rows := operator.Releases(entries)
			for i := range rows {
				rows[i].Changes = hidden(rows[i].Changes)
			}
			return items(rows), nil
		})
	add(s, a, route{"get-rollout", http.MethodGet, componentPath + "/rollout", "Tell how the newest rollout stands; the events tell when that changes", Viewer, 0},
		func(ctx context.Context, w *work, in *InComponent) (*reply[api.Rollout], error) {
			v, err := view(ctx, w, in)
			if err == nil && v.Desired.Status == "" {
				err = problem(http.StatusNotFound, "nothing was asked for of component %s yet", in.Component)
			}
			return &reply[api.Rollout]{api.Rollout{Component: in.Component, Rollout: v.Record(), Waits: operator.Standing(in.Component, v)}}, err
		})
}

// view is all that is known of a component.
func view(ctx context.Context, w *work, in *InComponent) (component.View, error) {
	p, err := operator.Read(ctx, w.etcd, in.Project)
	if err != nil {
		return component.View{}, err
	}
	_, err = operator.Pick(operator.Names(p), []string{in.Component})
	return p.Components[in.Component], err
}

type update struct {
	InProject
	Body api.Update
}

type steering struct {
	InComponent
	Word string   `path:"word" enum:"pause,resume,promote,abort,retry"`
	Body api.Word `required:"false"`
}

type rollback struct {
	InComponent
	Body api.Rollback `required:"false"`
}

// started is the answer to what began rollouts.
type started struct {
	Location string `header:"Location" doc:"where the rollout of the first one is"`
	Body     list[api.Started]
}

func begun(project string, rs ...operator.Release) *started {
	out := &started{Body: list[api.Started]{Items: []api.Started{}}}
	for _, r := range rs {
		out.Body.Items = append(out.Body.Items, api.Started{Component: r.Name, Generation: r.Generation, ImageID: r.Desired.ImageID, Source: r.Desired.Source})
	}
	if len(rs) > 0 {
		out.Location = "/v2/projects/" + url.PathEscape(project) + "/components/" + url.PathEscape(rs[0].Name) + "/rollout"
	}
	return out
}

func (s *Server) rolloutRoutes(a huma.API) {
	add(s, a, route{"start-rollouts", http.MethodPost, rolloutsPath, "Roll the current image and configuration of components out", Deployer, http.StatusAccepted},
		func(ctx context.Context, w *work, in *update) (*started, error) {
			u, rs, _, err := resolve(ctx, w, in)
			if err == nil {
				err = operator.Write(ctx, w.etcd, in.Project, u, rs, nil)
			}
			return begun(in.Project, rs...), err
		})
	add(s, a, route{"plan-rollouts", http.MethodPost, rolloutsPath + "/plan", "Tell what an update would do, and do nothing", Deployer, 0},
		func(ctx context.Context, w *work, in *update) (*reply[list[api.Plan]], error) {
			_, rs, same, err := resolve(ctx, w, in)
			if err != nil {
				return nil, err
			}
			p, err := operator.Read(ctx, w.etcd, in.Project)
			plans := operator.Plans(p, rs, same)
			for i := range plans {
				plans[i].Changes = hidden(plans[i].Changes)
			}
			return items(plans), err
		})
	add(s, a, route{"steer-rollout", http.MethodPost, componentPath + "/rollout/{word}", "Pause, resume, promote, abort or retry the newest rollout", Deployer, 0},
		func(ctx context.Context, w *work, in *steering) (*reply[api.Started], error) {
			word := component.Word{By: asker(ctx).By, At: time.Now().UTC(), Reason: in.Body.Reason}
			gen, err := operator.Steer(ctx, w.etcd, in.Project, in.Component, operator.Action(in.Word), word, in.Body.Generation)
			return &reply[api.Started]{api.Started{Component: in.Component, Generation: gen}}, err
		})
	add(s, a, route{"roll-back", http.MethodPost, componentPath + "/rollback", "Bring a past release back on all hosts", Deployer, http.StatusAccepted},
		func(ctx context.Context, w *work, in *rollback) (*started, error) {
			r, err := operator.Rollback(ctx, w.etcd, in.Project, in.Component, in.Body.To, asker(ctx), in.Body.Reason)
			return begun(in.Project, r), err
		})
}

// asker is who asks, as history shows it.
func asker(ctx context.Context) operator.Who {
	return operator.Who{By: who(ctx).who, From: "api request " + requestID(ctx)}
}

// resolve works an update out.
func resolve(ctx context.Context, w *work, in *update) (operator.Update, []operator.Release, []string, error) {
	b := in.Body
	u := operator.Update{
		Components: b.Components, All: b.All, Together: b.Together, Reason: b.Reason, Restart: b.Restart, Policy: b.Policy, IfGeneration: b.IfGeneration,
	}
	if err := u.Check(); err != nil {
		return u, nil, nil, problem(http.StatusUnprocessableEntity, "name components, or all, or two or more together; if_generation takes one component")
	}
	p, err := operator.Read(ctx, w.etcd, in.Project)
	if err != nil {
		return u, nil, nil, err
	}
	when := b.Pull
	if when == "" {
		when = "missing"
	}
	rs, same, err := operator.Resolve(ctx, p, u, asker(ctx), func(ctx context.Context, ref string) (component.Image, string, error) {
		img, id, err := w.images(ctx, ref, when)
		if err != nil && ctx.Err() == nil && !errors.Is(err, component.ErrEngineUnreachable) {
			err = problem(http.StatusConflict, "%s", err) // who asks can do something about it
		}
		return img, id, err
	})
	return u, rs, same, err
}
