// Package handover is the protocol by which a running daemon gives its place to a newer process.
//
// The old process starts the new one over a pair of sockets and speaks with it step by step:
//
//	old                                   new
//	Start ── hello (versions) ──────────►
//	      ◄── ready: all that needs nobody's leave is done, or failed: why
//	Give  ── estate (JSON, files) ──────►  Estate
//	      ◄── prepared                     Prepared
//	Pass  ── listening sockets ─────────►
//	      ◄── taken                        Taken: waits for go
//	Pass  ── go ────────────────────────►  from here on the new one serves
//	      ◄── serving                      Serving
//	Move  ── connections, some at a time ►
//	Confirm ── confirm ─────────────────►  the service manager knows of the new process
//
// Until it has said go, the old process may take everything back: it ends the new one by Heir.End and
// goes on as if nothing had been. The new one touches nothing before go. Afterwards the two are joined by
// a Link: the old one, which finishes what could not be handed over, tells how many connections each
// target still has, and is told to cut or to leave.
//
// Messages are JSON objects, one in each packet; unknown fields and unknown steps on a Link are skipped. Both
// sides name the newest and the oldest protocol they speak, and use the newest that both know.
//
// A Heir and a Past are used by one goroutine at a time; a Link may be used by many. The package knows no
// daemon: what an estate is, its user says.
package handover
