//go:build !linux

package app

// releaseProgram does nothing where the kernel does not say what it has mapped.
func releaseProgram() error { return nil }
