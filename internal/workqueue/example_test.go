package workqueue_test

import (
	"context"
	"fmt"

	"github.com/gantryd/gantryd/internal/workqueue"
)

func Example() {
	q := workqueue.New[string]()
	q.Add("web")
	q.Add("db")
	q.Add("web") // waits already: still one pass

	for q.Len() > 0 {
		name, done, err := q.Get(context.Background())
		if err != nil {
			return
		}
		fmt.Println("reconcile", name)
		done()
	}
	// Output:
	// reconcile web
	// reconcile db
}
