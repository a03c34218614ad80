// Package apiserver is the deploy API: HTTP, credentials and the routes of /v2.
//
//	s, err := apiserver.New(apiserver.Options{Addr: "0.0.0.0:3000", Cert: "api.pem", Key: "api.key", Log: log})
//	err = s.Run(ctx, client, images) // until ctx ends
//
// Run serves once there is a credential that lets anybody in, and ends gracefully: requests under way have some
// seconds, event streams end at once and are resumed elsewhere. It may be called again after it returned, with
// another client.
//
// Everything is behind a credential: a token out of etcd, the user name and password of the options, or a client
// certificate. Each has a role, for all projects or for some. Tokens are known from a watch, so that one that is
// revoked ends at once, with the streams that it opened.
//
// What a request asks for is worked out by internal/operator. This package knows HTTP and pkg/api's types; it
// does not know etcd's keys or Docker Engine: images are resolved by a function that Run is given.
package apiserver
