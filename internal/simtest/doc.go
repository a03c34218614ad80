// Package simtest runs fleets of up to 1,000 hosts in one process: a real etcd, and for each host the
// Store of pkg/etcdstate, with a connection of its own, and the Supervisor of pkg/supervisor. Containers, checks
// and connections are simulated: a container is ready a second after its start.
//
// Its tests count what a rollout costs: time against the least that its policy allows, writes for each
// host and turn, and what etcd sends to each daemon.
//
//	make sim                          # 10, 100 and 1,000 hosts with 20 components each: a table
//	GANTRYD_SIM=10,100 go test ./internal/simtest -v -run Table
//
// Without GANTRYD_SIM a small fleet shows that the counts hold. The package knows no Docker Engine.
package simtest
