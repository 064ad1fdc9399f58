// Expands templates with Go's own packages, for tests that compare Varve's with them.
// Reads a JSON object a line from stdin: text, html, data; writes {"out": ...} or {"error": ...}.
package main

import (
	"bufio"
	"encoding/json"
	htmltemplate "html/template"
	"io"
	"os"
	"strings"
	texttemplate "text/template"
)

type request struct {
	Text string `json:"text"`
	HTML bool   `json:"html"`
	Data any    `json:"data"`
}

func functions() map[string]any {
	return map[string]any{
		"safeHtml": func(text string) htmltemplate.HTML { return htmltemplate.HTML(text) },
		"safeUrl":  func(text string) htmltemplate.URL { return htmltemplate.URL(text) },
		"list":     func(values ...any) []any { return values },
		"dict": func(values ...any) map[string]any {
			made := map[string]any{}
			for i := 0; i+1 < len(values); i += 2 {
				made[values[i].(string)] = values[i+1]
			}
			return made
		},
	}
}

func expand(asked request) (string, error) {
	var out strings.Builder
	if asked.HTML {
		parsed, err := htmltemplate.New("t").Option("missingkey=zero").Funcs(functions()).Parse(asked.Text)
		if err != nil {
			return "", err
		}
		err = parsed.Execute(&out, asked.Data)
		return out.String(), err
	}
	parsed, err := texttemplate.New("t").Option("missingkey=zero").Funcs(functions()).Parse(asked.Text)
	if err != nil {
		return "", err
	}
	err = parsed.Execute(&out, asked.Data)
	return out.String(), err
}

func main() {
	input, output := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		var asked request
		answer := map[string]string{}
		if err := json.Unmarshal(line, &asked); err != nil {
			answer["error"] = err.Error()
		} else if text, err := expand(asked); err != nil {
			answer["error"] = err.Error()
		} else {
			answer["out"] = text
		}
		written, _ := json.Marshal(answer)
		output.Write(append(written, '\n'))
		output.Flush()
	}
}
