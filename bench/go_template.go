// SPDX-License-Identifier: Apache-2.0

// Go's own text/template on a template and keys from standard input, for bench/confd.py:
// prints the processor nanoseconds of one render and the SHA-256 of what it renders.
//
//	{"template": "…", "runs": 200, "pairs": [["/web/up/0001", "10.0.0.1:80"], …]}
//
// The functions only look up what was made ready before, so that the engine alone counts:
// `gets` and `getvs` give all pairs, whatever the pattern.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"text/template"
)

type pair struct{ Key, Value string }

type order struct {
	Template string
	Runs     int
	Pairs    [][2]string
}

func processor() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func main() {
	var asked order
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	held := map[string]string{}
	var pairs []pair
	var values []string
	for _, p := range asked.Pairs {
		held[p[0]] = p[1]
		if strings.HasPrefix(p[0], "/web/up/") {
			pairs = append(pairs, pair{p[0], p[1]})
			values = append(values, p[1])
		}
	}
	made := template.Must(template.New("t").Funcs(template.FuncMap{
		"base":   path.Base,
		"exists": func(key string) bool { _, found := held[key]; return found },
		"gets":   func(pattern string) []pair { return pairs },
		"getvs":  func(pattern string) []string { return values },
		"getv": func(key string, other string) string {
			if value, found := held[key]; found {
				return value
			}
			return other
		},
	}).Parse(asked.Template))
	var out bytes.Buffer
	render := func() {
		out.Reset()
		if err := made.Execute(&out, nil); err != nil {
			panic(err)
		}
	}
	render()
	begun := processor()
	for run := 0; run < asked.Runs; run++ {
		render()
	}
	spent := (processor() - begun) / int64(asked.Runs)
	fmt.Printf("%d %x\n", spent, sha256.Sum256(out.Bytes()))
}
