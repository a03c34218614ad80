package component_test

import (
	"fmt"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
)

// A host serves one release and is asked for another. Nothing happens to the old container until
// the host has a turn, and then a new one starts beside it.
func ExampleNext() {
	spec := component.Spec{Name: "web", Repo: "example/web"}
	old := component.Desired{Status: component.StatusReady, ImageID: "sha256:one", Spec: &spec, Generation: 1}
	want := component.Desired{Status: component.StatusReady, ImageID: "sha256:two", Spec: &spec, Generation: 2}
	proven := old.Release()
	have := component.Observed{
		Now:        time.Now(),
		Containers: []component.Container{{ID: "4ae76210a4fe", Hash: proven.Hash(), Stage: component.Serving, Running: true}},
		Primary:    "4ae76210a4fe",
		Proven:     &proven,
		Served:     true,
		Images:     map[string]component.ImageState{"sha256:one": {Present: true}},
	}
	show := func(turn component.Turn) {
		a := component.Next(want, have, turn)
		fmt.Printf("%s %q\n", a.Verb, a.Container)
	}

	show(component.Turn{})
	have.Images["sha256:two"] = component.ImageState{Present: true}
	show(component.Turn{})
	mine := component.Turn{State: component.TurnMine, Generation: 2}
	show(mine)
	fresh := component.Container{ID: "9c1d2e3f4a5b", Hash: want.Release().Hash(), StageSince: have.Now, Running: true}
	have.Containers = append(have.Containers, fresh)
	show(mine)
	have.Containers[1].Ready = true
	show(mine)
	have.Containers[1].Stage, have.Primary = component.Serving, "9c1d2e3f4a5b"
	show(mine)
	proven = want.Release()
	show(component.Turn{})
	// Output:
	// pull ""
	// await turn ""
	// start ""
	// wait "9c1d2e3f4a5b"
	// route "9c1d2e3f4a5b"
	// finish "9c1d2e3f4a5b"
	// drain "4ae76210a4fe"
}

// What a container of the importing component finds in its environment.
func ExampleLinkVariables() {
	link := component.LinkDefinition{Name: "server", Port: 8888}
	for _, v := range component.LinkVariables("serveralias", link, "172.17.42.1", 53852) {
		fmt.Println(v.Name + "=" + v.Value)
	}
	// Output:
	// SERVERALIAS_CLINK=tcp://172.17.42.1:53852
	// SERVERALIAS_CLINK_8888_TCP=tcp://172.17.42.1:53852
	// SERVERALIAS_CLINK_8888_TCP_PROTO=tcp
	// SERVERALIAS_CLINK_8888_TCP_ADDR=172.17.42.1
	// SERVERALIAS_CLINK_8888_TCP_PORT=53852
}
