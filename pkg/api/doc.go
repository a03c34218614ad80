// Package api holds what programs read and write of gantryd: the rows that the commands print with -o json,
// and what the deploy API answers, which is the same.
//
// The names of the JSON fields are a stable promise: fields are added, never renamed or taken away. The
// package knows the vocabulary of pkg/component and nothing of etcd, Docker Engine or HTTP servers.
package api
