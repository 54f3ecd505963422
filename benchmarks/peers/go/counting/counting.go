// Package counting is counting.py in Go: the measured event, and the count and time of handler calls.
package counting

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	bodyBytes   = 214
	withoutNote = 79 // bytes of an event as JSON whose note is empty
	chunk       = 500
	chunkBytes  = 8_000_000
	concurrency = 100
)

var (
	messages = number("BENCH_MESSAGES", 1)
	times    = os.Getenv("BENCH_TIMES")
	body     = number("BENCH_BODY", bodyBytes)
)

// Order is the measured event.
type Order struct {
	Type    string `json:"type"`
	OrderID string `json:"order_id"`
	Amount  int    `json:"amount"`
	Note    string `json:"note"`
}

// NewOrder returns the event with this number.
func NewOrder(number int) Order {
	id := fmt.Sprintf("ord_%012d", number)
	note := strings.Repeat("x", body-withoutNote)
	return Order{Type: "order.paid", OrderID: id, Amount: 4200, Note: note}
}

// URL is the address of Redis.
func URL() string { return os.Getenv("REDIS_URL") }

// Messages is how many messages the queue gets.
func Messages() int { return messages }

// Concurrency is how many handlers may run at a time.
func Concurrency() int { return number("BENCH_CONCURRENCY", concurrency) }

// Count is how many messages may be read at a time.
func Count(otherwise int) int { return number("BENCH_COUNT", otherwise) }

// AskedToFill tells whether this run fills the queue. Otherwise it empties it.
func AskedToFill() bool { return len(os.Args) > 1 && os.Args[1] == "fill" }

// Fill gives the events as JSON to put, some at a time.
func Fill(put func(bodies [][]byte) error) error {
	each := max(1, min(chunk, chunkBytes/body))
	for first := 0; first < Messages(); first += each {
		var bodies [][]byte
		for number := first; number < min(first+each, Messages()); number++ {
			body, err := json.Marshal(NewOrder(number))
			if err != nil {
				return err
			}
			bodies = append(bodies, body)
		}
		if err := put(bodies); err != nil {
			return err
		}
	}
	return nil
}

// Counter counts handler calls, from any number of goroutines, and writes the time that they took.
// The time starts with the first call, so that the start of the process is not measured.
type Counter struct {
	lock  sync.Mutex
	calls int
	began time.Time
	cpu   time.Duration
	times []byte
}

// CountOf counts the handler call of an event. With BENCH_TIMES it keeps when the call began.
func (c *Counter) CountOf(event Order) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if times != "" {
		c.times = fmt.Appendf(c.times, "%s %d\n", event.OrderID, time.Now().UnixNano())
	}
	c.count()
}

// Count counts a handler call.
func (c *Counter) Count() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.count()
}

func (c *Counter) count() {
	c.calls++
	if c.calls == 1 {
		c.began, c.cpu = time.Now(), cpuTime()
	}
	if c.calls == Messages() {
		if err := c.write(); err != nil {
			panic(err)
		}
	}
}

func (c *Counter) write() error {
	result, err := json.Marshal(map[string]any{
		"messages":    c.calls,
		"seconds":     time.Since(c.began).Seconds(),
		"cpu_seconds": (cpuTime() - c.cpu).Seconds(),
	})
	if err != nil {
		return err
	}
	if times != "" {
		if err := writeWhole(times, c.times); err != nil {
			return err
		}
	}
	return writeWhole(os.Getenv("BENCH_RESULT"), result)
}

// writeWhole writes a file that nobody ever sees in part.
func writeWhole(path string, content []byte) error {
	if err := os.WriteFile(path+".part", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func number(name string, otherwise int) int {
	given, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		return otherwise
	}
	return given
}
