// Package config reads a project file: it parses JSON or YAML, applies overrides, finds every
// mistake at once, and writes the JSON that is stored.
//
// Parse reads and validates a file; Override changes one component the way --setconfig asks; what
// was changed or came another way goes through Validate. Canonical is the stored form, Pretty the
// one people read, Schema what editors complete the file by. Nothing here applies a default: a
// project stays as it was written, and the methods of component.Spec fill in what is absent.
//
// The types are those of pkg/component, read by reflection: a field added there is parsed,
// overridden and in the schema without a change here. Only its rules are written here.
//
// Every function is pure and may be called at once from several goroutines; results share no
// memory with arguments. The package reads no files, and knows neither etcd nor Docker Engine nor
// whether an image or a network exists.
package config
