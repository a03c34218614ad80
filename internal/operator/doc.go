// Package operator works out what an operator asks for: which components are meant, what an update or a
// rollback is to write, how a project stands in the words of people. The commands of gantryd and its API
// server both ask it, so that neither has an update of its own.
//
//	p, err := operator.Read(ctx, client, "shop")
//	rs, same, err := operator.Resolve(ctx, p, operator.Update{Components: []string{"web"}}, who, images)
//	err = operator.Write(ctx, client, "shop", update, rs, nil)
//
// It reads and writes through an etcdstate.Client and keeps nothing; all functions may be called at once.
// Mistakes of the operator are of type *Error, which names their kind. It knows neither flags and tables nor
// HTTP, and does not know Docker Engine: images are resolved by a function that it is given.
package operator
