// Command testapp is the small static server that gantryd's tests and its demo run in containers.
//
// It serves HTTP, echoes TCP, and misbehaves on request. It logs one line per event to stdout.
//
// HTTP, on PORT (default 8080):
//
//	GET  /                version and host name, such as "v1 4ae76210a4fe"
//	GET  /ready           200 once READY_AFTER passed, 503 before; always 503 with NEVER_READY
//	GET  /healthz         200, or 503 once UNHEALTHY_AFTER passed or after POST /unhealthy
//	POST /unhealthy       makes /healthz fail from now on
//	GET  /stream          a chunk every 100 ms for ?seconds=N (default 1)
//	GET  /slow            answers after ?seconds=N (default 1)
//	GET  /env             JSON: args, env, uid, dir, hostname
//	POST /signal          is counted; GET tells how many came
//	GET  /hits            requests for / that came in all, and before it was ready
//	GET  /file?path=P     the file P; PUT replaces it
//	GET  /fetch?env=E     GETs the address in variable E (tcp:// counts as http://), path ?path=P
//	any with Upgrade      101, then an echo of every byte
//
// TCP: an echo on TCP_PORT (default 9000); "0" turns it off.
//
// Environment: VERSION; READY_AFTER, UNHEALTHY_AFTER, CRASH_AFTER (durations such as 2s; a crash after
// 0s is before it listens); NEVER_READY; EXIT_CODE (status of the crash, default 1); ALLOC_MB (memory
// used at the start); IGNORE_TERM (SIGTERM does nothing); PRINT (text logged at the start, to stderr).
//
// On SIGTERM it stops accepting, finishes the requests in flight with "Connection: close" and
// exits with 0.
//
// Arguments: "check URL" exits with 0 when the URL answers 2xx, "print A…" writes its arguments as
// a JSON list, "exit N" exits with N. "await FILE" adds a line to FILE.log, waits until FILE is there, adds
// another line, and exits with the number in it. Anything else starts the server.
package main
