// Package skiptest skips tests that this machine cannot run, or fails them where nothing may be skipped.
//
//	if err != nil {
//		skiptest.Missing(t, "docker", "no Docker Engine: %v", err)
//	}
//
// The variable GANTRYD_REQUIRE lists what a machine has to have, separated by commas: docker for a
// Docker Engine, fleet for all that needs root and namespaces. CI sets both.
package skiptest
