package localstate_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/localstate"
)

// tempDir is a directory for an example.
func tempDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "gantryd")
	if err != nil {
		panic(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

func ExampleMemory() {
	dir, remove := tempDir()
	defer remove()
	memory, err := localstate.OpenMemory(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, there, _ := memory.Load()
	fmt.Println("something remembered:", there)
	if err := memory.Save("web", component.Record{Generation: 7, Primary: "4ae76210a4fe"}); err != nil {
		fmt.Println(err) // the old record counts; try again later
		return
	}
	records, there, _ := memory.Load()
	fmt.Println("something remembered:", there, records.Components["web"].Primary)
	// Output:
	// something remembered: false
	// something remembered: true 4ae76210a4fe
}

func ExampleStore() {
	dir, remove := tempDir()
	defer remove()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, err := localstate.OpenStore(dir, localstate.Options{Host: "here"})
	if err != nil {
		fmt.Println(err)
		return
	}
	generation, err := store.SetDesired(ctx, "web", component.Desired{
		Status: component.StatusReady, ImageID: "sha256:aa", Spec: &component.Spec{Name: "web", Repo: "web"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	supervise := func() error { // what a supervisor does, without the work
		if err := store.TakeTurn(ctx, "web", 1, store.View("web")); err != nil {
			return err
		}
		return store.EndTurn(ctx, "web",
			component.HostStatus{Host: "here", Generation: generation, Step: component.StepServing},
			&component.Rollout{Generation: generation, Status: component.RolloutDone})
	}
	if err := supervise(); err != nil {
		fmt.Println(err)
		return
	}
	view, err := store.Wait(ctx, "web", func(v component.View) bool {
		return v.Rollout.Generation >= generation && v.Rollout.Status != component.RolloutProgressing
	})
	fmt.Println(view.Rollout.Status, store.Status("web").Step, err)
	// Output: done serving <nil>
}

func ExampleLock() {
	dir, remove := tempDir()
	defer remove()
	lock, err := localstate.Lock(dir)
	if err != nil {
		fmt.Println(err) // in use by another process: process ID 4711
		return
	}
	defer func() {
		if err := lock.Unlock(); err != nil {
			fmt.Println(err)
		}
	}()
	fmt.Println("this process uses the directory")
	// Output: this process uses the directory
}
