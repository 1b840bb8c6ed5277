# What the R programs share: the task, the model's formula, and what they leave behind. Base R alone.


source("task.R")
data <- read.csv("data.csv")
for (group in task$groups) data[[group$column]] <- factor(data[[group$column]])

slopes <- if (length(task$widths) > 1) paste0("x", seq_len(length(task$widths) - 1)) else character(0)
bars <- sapply(task$groups, function(group) {
  sprintf("(%s | %s)", paste(c("1", group$slopes), collapse = " + "), group$column)
})
right <- paste(c("1", slopes, bars), collapse = " + ")

# Seconds of one expression: wall, and the processor's of this process and of those that it waited for.
seconds <- function(expression) {
  took <- system.time(expression, gcFirst = FALSE)
  c(wall = took[["elapsed"]], processor = sum(took[c("user.self", "sys.self", "user.child", "sys.child")], na.rm = TRUE))
}

# `drawn` is a list of one matrix a chain, its columns under the names of the task.
leave <- function(drawn, importing, compiling, took, note = "") {
  chains <- lapply(seq_along(drawn), function(k) data.frame(chain = k, drawn[[k]], check.names = FALSE))
  write.csv(do.call(rbind, chains), "draws.csv", row.names = FALSE)
  what <- c("importing", "compiling", "wall", "processor")
  value <- as.character(c(importing, compiling, took[["wall"]], took[["processor"]]))
  if (nzchar(note)) {
    what <- c(what, "note")
    value <- c(value, note)
  }
  write.csv(data.frame(what = what, value = value), "took.csv", row.names = FALSE)
}

diverged <- function(stanfit) {
  count <- sum(sapply(rstan::get_sampler_params(stanfit, inc_warmup = FALSE), function(x) sum(x[, "divergent__"])))
  if (count > 0) paste(count, "divergences") else ""
}
