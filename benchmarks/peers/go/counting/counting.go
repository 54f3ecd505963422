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
	noteBytes   = 135 // so that an event as JSON has 214 bytes
	chunk       = 500
	concurrency = 100
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
	return Order{Type: "order.paid", OrderID: id, Amount: 4200, Note: strings.Repeat("x", noteBytes)}
}

// URL is the address of Redis.
func URL() string { return os.Getenv("REDIS_URL") }

// Messages is how many messages the queue gets.
func Messages() int { return number("BENCH_MESSAGES", 1) }

// Concurrency is how many handlers may run at a time.
func Concurrency() int { return number("BENCH_CONCURRENCY", concurrency) }

// AskedToFill tells whether this run fills the queue. Otherwise it empties it.
func AskedToFill() bool { return len(os.Args) > 1 && os.Args[1] == "fill" }

// Fill gives the events as JSON to put, some at a time.
func Fill(put func(bodies [][]byte) error) error {
	for first := 0; first < Messages(); first += chunk {
		var bodies [][]byte
		for number := first; number < min(first+chunk, Messages()); number++ {
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
}

// Count counts a handler call.
func (c *Counter) Count() {
	c.lock.Lock()
	defer c.lock.Unlock()
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
	path := os.Getenv("BENCH_RESULT")
	if err := os.WriteFile(path+".part", result, 0o600); err != nil {
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
