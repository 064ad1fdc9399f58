"""StatsD and DogStatsD: lines as counters, gauges, histograms and sets, flushed now and then."""
