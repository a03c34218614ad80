package engine_test

import (
	"fmt"

	"github.com/gantryd/gantryd/pkg/engine"
)

// New makes no connection, but it refuses an environment that cannot work.
func ExampleNew() {
	environment := map[string]string{"DOCKER_HOST": "ssh://h1"}
	_, err := engine.New(engine.Options{
		Project: "shop",
		Host:    "h1",
		Getenv:  func(name string) string { return environment[name] },
	})
	fmt.Println(err)
	// Output: DOCKER_HOST: "ssh://h1" is neither unix:// nor tcp://
}
