package cli

import (
	"github.com/spf13/cobra"

	"github.com/gantryd/gantryd/pkg/component"
	"github.com/gantryd/gantryd/pkg/config"
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
	} {
		f.value = cmd.Flags().String(f.flag, "", "for this update: "+f.usage)
		p.values = append(p.values, f)
	}
}

// apply returns a copy of s with what the flags say of its rollout.
func (p *policyFlags) apply(s component.Spec) (component.Spec, error) {
	var overrides []string
	for _, f := range p.values {
		if p.cmd.Flags().Changed(f.flag) {
			overrides = append(overrides, "rollout."+f.field+"="+*f.value)
		}
	}
	if len(overrides) == 0 {
		return s, nil
	}
	s, err := config.Override(s, overrides)
	if err == nil {
		err = config.Validate(component.Project{Components: []component.Spec{s}})
	}
	if err != nil {
		return s, fail(exitUsage, "%w", err)
	}
	return s, nil
}
