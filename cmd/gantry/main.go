// Command gantry: see its --help.
package main

import (
	"context"
	"os"

	"github.com/gantryd/gantryd/internal/cli"
)

func main() {
	os.Exit(cli.Gantry(context.Background(), os.Args[1:], cli.Env{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Self: cli.Self(),
	}))
}
