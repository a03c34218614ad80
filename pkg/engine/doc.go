// Package engine runs the containers of one project on one host through Docker Engine. It is the
// only package that knows Docker Engine.
//
//	e, err := engine.New(engine.Options{Project: "shop", Host: "h1", Log: log, Getenv: os.Getenv})
//	…
//	defer e.Close()
//	err = e.Run(ctx, func(name string) { queue.Add(name) }) // events; blocks
//	id, err := e.Start(ctx, component.StartRequest{Component: "web", Release: release})
//
// New makes no connection: the Engine may be down when a daemon starts, and may go and come back at
// any time. Every call has a deadline of its own, whatever its context says. A call that got no
// answer returns an error that is ErrUnreachable, never an empty answer: not knowing is not the
// same as knowing that nothing is there. After the Engine was lost, the next call connects anew and
// agrees on the API version again, since the Engine that comes back may be another one.
//
// A container belongs to a project and a host by its labels, and to nobody else: containers without
// them are neither listed nor touched, and a daemon that starts again finds its own ones. The labels
// also hold the whole release, so a container can be understood by whoever finds it. They contain
// the component's environment, which the Engine shows to its users in any case.
//
// Images are told apart by content, the image ID. Pull fetches by digest when there is one and
// compares what came with what was wanted.
//
// All methods may be called at once. Run starts goroutines and waits for them; nothing else does.
//
// The package does not know what a rollout, a check or a proxy is, and decides nothing: what to
// start and stop, and when to try again, is the caller's to say.
package engine
