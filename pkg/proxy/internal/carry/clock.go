package carry

import "time"

// began is when this process did. Only what it says of the clock that never jumps is used.
var began = time.Now() //nolint:gochecknoglobals // nobody writes it

// Now is a time in nanoseconds that passes evenly, whatever becomes of the time of day. It tells how long ago
// something was in this process, and nothing in another one. It is never 0.
func Now() int64 { return int64(time.Since(began)) + 1 }
