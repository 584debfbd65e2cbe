"""Draw values as characters, whatever they measure: lines over time, bands, histograms, gauges."""
