package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// The labels of our containers. Who carries LabelProject and LabelHost with our names is ours.
const (
	LabelPrefix     = "dev.gantryd." // reserved
	LabelProject    = LabelPrefix + "project"
	LabelComponent  = LabelPrefix + "component"
	LabelHost       = LabelPrefix + "host"
	LabelGeneration = LabelPrefix + "generation"
	LabelSpecHash   = LabelPrefix + "spec-hash"
	LabelRelease    = LabelPrefix + "release" // a component.Release in JSON
	LabelCreated    = LabelPrefix + "created" // RFC 3339 with nanoseconds; the Engine lists seconds only
	LabelLinks      = LabelPrefix + "links"   // a JSON list of the symbolic links made for bindings
	// LabelTask stands in place of LabelComponent on the container of a pre-deploy task: who does not know
	// tasks must not take it for one that serves. LabelAttempt is the try of the rollout it is for.
	LabelTask    = LabelPrefix + "task"
	LabelAttempt = LabelPrefix + "attempt"
)

// labels are those of a new container. Ours win over the component's, which win over the image's.
func (e *Engine) labels(r component.StartRequest, links []string, now time.Time) (map[string]string, error) {
	out := map[string]string{}
	if !r.Task { // labels may say to others that it serves
		maps.Copy(out, r.Release.Spec.Labels)
	}
	for name := range out {
		if strings.HasPrefix(name, LabelPrefix) {
			return nil, fmt.Errorf("label %q: the prefix %s is reserved", name, LabelPrefix)
		}
	}
	release, err := json.Marshal(r.Release)
	if err != nil {
		return nil, fmt.Errorf("encode release: %w", err)
	}
	made, err := json.Marshal(links)
	if err != nil {
		return nil, fmt.Errorf("encode links: %w", err)
	}
	out[LabelProject] = e.project
	if r.Task {
		out[LabelTask], out[LabelAttempt] = r.Component, strconv.Itoa(r.Attempt)
	} else {
		out[LabelComponent] = r.Component
	}
	out[LabelHost] = e.host
	out[LabelGeneration] = strconv.FormatInt(r.Release.Generation, 10)
	out[LabelSpecHash] = r.Hash
	out[LabelRelease] = string(release)
	out[LabelCreated] = now.UTC().Format(time.RFC3339Nano)
	out[LabelLinks] = string(made)
	return out, nil
}

// fromLabels fills the parts of a container that its labels hold.
func fromLabels(labels map[string]string) (component.EngineContainer, error) {
	c := component.EngineContainer{Component: componentOf(labels), Hash: labels[LabelSpecHash], Task: labels[LabelComponent] == ""}
	if c.Component == "" {
		return c, errors.New("label " + LabelComponent + " is missing")
	}
	if err := json.Unmarshal([]byte(labels[LabelRelease]), &c.Release); err != nil {
		return c, fmt.Errorf("label %s: %w", LabelRelease, err)
	}
	generation, err := strconv.ParseInt(labels[LabelGeneration], 10, 64)
	if err != nil {
		return c, fmt.Errorf("label %s: %w", LabelGeneration, err)
	}
	if generation != c.Release.Generation {
		return c, fmt.Errorf("label %s: %d is not the release's generation %d", LabelGeneration, generation, c.Release.Generation)
	}
	if c.Task {
		if c.Attempt, err = strconv.Atoi(labels[LabelAttempt]); err != nil {
			return c, fmt.Errorf("label %s: %w", LabelAttempt, err)
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, labels[LabelCreated]); err == nil {
		c.Created = t
	}
	return c, nil
}

// componentOf is the component that a container with these labels belongs to, one way or the other.
func componentOf(labels map[string]string) string {
	return cmp.Or(labels[LabelComponent], labels[LabelTask])
}

// links are the symbolic links made for the bindings of the container with these labels.
func links(labels map[string]string) []string {
	var out []string
	if err := json.Unmarshal([]byte(labels[LabelLinks]), &out); err != nil {
		return nil
	}
	return out
}
