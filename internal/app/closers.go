package app

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-multierror"
)

// A closer is one step of taking something down.
type closer struct {
	name string
	f    func(context.Context) error
}

// closers are the steps of taking down what was built, in the order in which it was.
type closers []closer

func (cs *closers) add(name string, f func(context.Context) error) {
	*cs = append(*cs, closer{name, f})
}

// close takes down what was built, last first. It may be called again.
func (cs *closers) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	var errs *multierror.Error
	for len(*cs) > 0 {
		c := (*cs)[len(*cs)-1]
		*cs = (*cs)[:len(*cs)-1]
		if err := c.f(ctx); err != nil {
			errs = multierror.Append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errs.ErrorOrNil()
}
