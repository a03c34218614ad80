package app

import "github.com/gantryd/gantryd/pkg/supervisor"

// Route gives an owner listeners, as a supervisor does.
func (d *Daemon) Route(owner string, ls ...supervisor.Listener) error {
	return d.router.Apply(owner, ls)
}

// Addr is where a listener listens.
func (d *Daemon) Addr(name string) string { return d.router.proxy.Addr(name)[0] }

// Open is how many connections of a target are carried here.
func (d *Daemon) Open(target string) int {
	n, _ := d.router.proxy.Conns(target)
	return n
}
