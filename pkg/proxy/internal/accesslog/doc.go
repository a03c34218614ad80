// Package accesslog writes one line of JSON for each request, and never makes a request wait for it.
//
//	l := accesslog.New(file)
//	l.Add(&accesslog.Entry{Time: start, Listener: "web:80", Method: "GET", Path: "/", Status: 200})
//	...
//	err := l.Close(ctx)
//
// Add copies the entry, as text, to a buffer of bounded size; one goroutine writes what has gathered
// there, some times a second. When the writer is slower than the requests, or stands still, entries are
// dropped and counted, and the next thing that is written is how many. So a log that nobody reads costs
// its lines, and no request.
//
// What is in a line may come from anybody: control characters, whatever is not text and what changes
// the direction of writing are escaped, and long values are cut and end in "…". The query of a request
// and of a referrer is not logged, because that is where tokens and personal data are; nor is any
// header but user agent and referrer.
//
// All methods may be called at once; entries are written in the order of the calls of Add. The
// goroutine ends with Close. A writer that stands still is left behind at the end of its context if it
// has no SetWriteDeadline: nothing else can be done about a blocked write.
package accesslog
