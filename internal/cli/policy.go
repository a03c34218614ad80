package cli

import (
	"github.com/spf13/cobra"
)

// policyFlags override fields of rollout once; they are kept with the release.
type policyFlags struct {
	cmd    *cobra.Command
	values []policyFlag
}

type policyFlag struct {
	flag, field, usage string
	value              *string
}

func (p *policyFlags) add(cmd *cobra.Command) {
	p.cmd = cmd
	for _, f := range []policyFlag{
		{"max-parallel", "maxParallel", "hosts that may change at the same time, such as 2 or 25%", nil},
		{"bake", "bake", "time a new container must stay healthy before its host's turn ends", nil},
		{"canary", "canary", "hosts that change first, such as 1 or 10%; the others wait for promote", nil},
		{"auto-promote", "autoPromote", "time after which canaries that serve count as promoted", nil},
		{"on-failure", "onFailure", "halt or rollback", nil},
		{"max-failures", "maxFailures", "hosts that may fail before the rollout halts", nil},
		{"progress-deadline", "progressDeadline", "longest time in which no host comes further", nil},
		{"on-host-lost", "onHostLost", "wait or continue", nil},
		{"guard-errors", "guard.errors", "by how much more of its requests the new release may fail its users, such as 1%", nil},
		{"guard-latency-p99", "guard.latencyP99", "how many times as long 99 of 100 answers may take, such as 2x", nil},
		{"guard-watch", "guard.watch", "time for which the release is watched after the last host", nil},
	} {
		f.value = cmd.Flags().String(f.flag, "", "for this update: "+f.usage)
		p.values = append(p.values, f)
	}
}

// overrides are what the flags say, in the form of --setconfig.
func (p *policyFlags) overrides() []string {
	var out []string
	for _, f := range p.values {
		if p.cmd.Flags().Changed(f.flag) {
			out = append(out, "rollout."+f.field+"="+*f.value)
		}
	}
	return out
}
